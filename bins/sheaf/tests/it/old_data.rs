//! A data directory of an older build opens, and work goes on.

use std::fs;
use std::path::{Path, PathBuf};

use redb::{ReadOnlyDatabase, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use sheaf_coordinator::embedded::inspect;
use sheaf_testkit::TempDir;

use crate::harness::{PATIENCE, Server, serve_with, sheaf, wall_clock};

const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");
/// Name, rows, and state once everything that can be done is done.
const BATCHES: [(&str, usize, &str); 7] = [
    ("done-1", 10, "completed"),
    ("done:2", 20, "completed"),
    ("bad-1", 30, "failed"),
    ("later-1", 40, "completed"),
    ("later-2", 50, "completed"),
    ("gone", 60, "cancelled"),
    ("slow-1", 10, "completed"),
];

/// When the fixture had been made.
const MADE: &str = "@2026-11-27 07:30:00";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

fn fixture() -> TempDir {
    let folder = TempDir::new().unwrap();
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    copy(&fixtures.join("records-1"), &folder.path().join("data"));
    folder
}

/// A server of soon after the fixture was made: what has ended is kept for a day.
fn then(library: &Path, folder: TempDir, words: &[&str]) -> Server {
    let variables = wall_clock(library.to_str().unwrap(), MADE);
    let process = serve_with(words, |command| {
        variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    });
    Server::of(process, folder)
}

/// The first bytes of every record: the field of the version, and it.
fn versions(data: &Path) -> Vec<u8> {
    let database = ReadOnlyDatabase::open(data.join("coordinator.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let records = read.open_table(RECORDS).unwrap();
    records.iter().unwrap().map(|entry| entry.unwrap().1.value()[1]).collect()
}

#[test]
fn data_of_version_1_is_brought_on_and_worked_off() {
    let Some(library) = sheaf_testkit::faketime() else { return };
    let folder = fixture();
    let data = folder.path().join("data");
    // What the kill left open.
    drop(redb::Database::create(data.join("coordinator.redb")).unwrap());
    assert_eq!(versions(&data), [1; 7]);
    let old = inspect(&data.join("coordinator.redb"), |_| ()).unwrap();
    assert_eq!((old.version, old.batches, old.live), (1, 7, 3));

    let out = format!("parquet:{}", folder.path().join("out").display());
    let data_dir = data.to_str().unwrap().to_owned();
    let words = ["--data-dir", &data_dir, "--queue", "default,later", "--sink", &out];
    let server = then(&library, folder, &words);
    let show = |id: &str| server.run(&["batches", "show", id, "--json"]).json().remove(0);
    assert_eq!(
        server.run(&["queue", "show", "later", "--json"]).json()[0]["queues"][0]["paused"],
        true
    );
    assert_eq!(show("later-1")["state"], "pending");
    assert_eq!(show("bad-1")["error"]["code"], "processor_failed");
    server.run(&["queue", "resume", "later"]).ok();
    for (id, rows, state) in BATCHES {
        let batch = server.wait_for_state(id, state);
        assert_eq!(batch["rows"], rows, "{id}");
        let csv = server.run(&["get", id, "--format", "csv"]).ok();
        assert_eq!(csv.lines().count(), rows + 1, "{id}");
        assert!(csv.ends_with(&format!("{rows},row {rows}\n")), "{id}: {csv}");
    }
    assert_eq!(show("slow-1")["attempts"], 2, "the lease of the old server was one");
    assert_eq!(server.run(&["get", "loose", "--format", "csv"]).ok().lines().count(), 71);
    // What came with version 2 works on what is there.
    server.run(&["queue", "configure", "later", "--max-leased", "1"]).ok();
    let new = server.put(5, &["--register", "--after", "later-1"]);
    server.wait_for_state(&new, "completed");

    let backup = server.path("backup");
    server.run(&["backup", &backup]).ok();
    sheaf(&["restore", &backup, "--check"]).ok();
    let Server { mut process, folder, .. } = server;
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(0));
    let data = folder.path().join("data");
    assert_eq!(versions(&data), [2; 8]);
    let now = inspect(&data.join("coordinator.redb"), |_| ()).unwrap();
    assert_eq!((now.version, now.batches, now.live), (2, 8, 0));
    assert!(now.last_fence > old.last_fence);
}

#[test]
fn a_newer_format_is_refused_in_every_mode_and_left_as_it_is() {
    let folder = fixture();
    let data = folder.path().join("data");
    fs::write(data.join("FORMAT"), "2\n").unwrap();
    let before = fs::read(data.join("coordinator.redb")).unwrap();
    for mode in ["all", "coordinator", "flight"] {
        let words = ["serve", "--mode", mode, "--flight-addr", "127.0.0.1:0"];
        let text = sheaf(&[&words[..], &["--data-dir", data.to_str().unwrap()]].concat()).failed(9);
        assert!(text.contains("format 2") && text.contains("newer"), "{text}");
    }
    assert_eq!(fs::read(data.join("coordinator.redb")).unwrap(), before);
}
