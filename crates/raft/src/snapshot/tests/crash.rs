//! Killed while snapshots are written: there is always a whole one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{RngExt as _, SeedableRng as _};

use super::{batch, head, make, names, open};

const CHILD: &str = "SHEAF_TEST_SNAPSHOT_CHILD";
const SEED: u64 = 5;

/// Runs in the child: writes one snapshot after the other until it is killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let snapshots = open(Path::new(&home));
    let mut index = snapshots.current().map_or(0, |file| file.id().index);
    loop {
        index += 1;
        let mut writer = snapshots.write(&head(index)).unwrap();
        for number in 0..50 {
            writer.write(&batch(number, 10, 1_000)).unwrap();
            if number % 10 == 0 {
                say("wrote a part");
            }
        }
        let path = writer.finish().unwrap();
        say("wrote all");
        snapshots.adopt(snapshots.check_file(&path).unwrap()).unwrap();
        say(&format!("ack {index}"));
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}

#[test]
fn a_crash_while_snapshots_are_written_leaves_the_last_one_whole() {
    let home = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(SEED);
    let mut leftovers = 0;
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "snapshot::tests::crash::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = 0;
        let lines = random.random_range(10..60);
        for line in out.by_ref().take(lines).map(Result::unwrap) {
            if let Some((_, index)) = line.split_once("ack ") {
                last = index.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        leftovers += names(home.path()).iter().filter(|name| name.ends_with("tmp")).count();
        let snapshots = open(home.path());
        let current = snapshots.current().unwrap();
        assert!(current.id().index >= last, "seed {SEED}, round {round}: {last} is lost");
        assert_eq!(current.batches().unwrap().map(Result::unwrap).count(), 50);
        let names = names(home.path());
        assert!(names.iter().all(|name| name.ends_with(".arrow")), "{names:?}");
    }
    assert!(leftovers > 0, "seed {SEED}: none was killed in the middle");
}

#[test]
fn whatever_was_on_disk_of_a_snapshot_before_its_rename_does_not_count() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    let former = make(&snapshots, 1, 2);
    let mut writer = snapshots.write(&head(2)).unwrap();
    writer.write(&batch(0, 10, 100)).unwrap();
    let path = writer.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    drop(snapshots);
    for length in (0..=whole.len()).step_by(7).chain([whole.len()]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(open(home.path()).current().unwrap().id(), former.id());
        assert!(!path.exists(), "it is removed");
    }
}
