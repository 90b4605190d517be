//! A disk that is full, not writable or damaged: said so, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sheaf_retry::{Code, Retryable as _};

use crate::bad_input::{Wire, all, sound};
use crate::harness::{PATIENCE, Server, serve, spawn};

/// A file system in memory, where this user may mount one.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "sheaf-test"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIP: no file system can be mounted here");
        }
        mounted.then(|| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a test that fails may still have a server on it.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// Bytes that no compression makes smaller, 1 MB or so as CSV.
fn noise(path: &str, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::from("n\n");
    while text.len() < 1_000_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{:x}\n", state | 1 << 63));
    }
    fs::write(path, text).unwrap();
}

/// Everything in the way of the file system, up to the last block.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_puts_and_keeps_what_it_has() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let Some(disk) = Mount::new(&folder.path().join("data"), "size=8m") else { return };
    let server = Server::start_in(folder, &["--workers", "0"]);
    let file = server.path("noise.csv");
    let mut kept = Vec::new();
    let text = loop {
        noise(&file, kept.len() as u64 + 1);
        let id = format!("noise-{}", kept.len());
        let ran = server.run(&["put", &file, "--id", &id, "--json"]);
        if ran.code() != 0 {
            assert_eq!(ran.code(), 6, "{}", ran.stderr());
            break ran.stderr();
        }
        kept.push(id);
        assert!(kept.len() < 20, "8 MB take no 20 MB");
    };
    assert!(kept.len() > 2, "{text}");
    let last = text.lines().last().unwrap();
    let error: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["code"], "disk_full", "{text}");
    let log = server.process.stderr();
    let line = log.lines().find(|line| line.contains("a put is refused"));
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("disk_full")), "{log}");
    // The alert on failed puts goes by this series, and sends whoever is called to that line.
    let (_, metrics) = server.admin("/metrics");
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sheaf_store_puts_failed_total{code=\"disk_full\"} "));
    assert!(counted.is_some_and(|count| count != "0"), "{metrics}");
    let wanted = server.run(&["get", &kept[0], "--format", "csv"]).ok();
    assert_eq!(wanted.lines().next(), Some("n"));
    for id in &kept {
        assert!(server.run(&["get", id, "--limit", "1"]).ok().contains('n'), "{id}");
    }

    // Not a byte left: the coordinator cannot write either, and says so.
    let filler = disk.0.join("filler");
    fill(&filler);
    let wire = Wire::to(server);
    let error = wire.put("small", all(sound())).unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert!(error.message().contains("free space there"), "{error}");
    let server = wire.server;
    assert_eq!(server.run(&["get", &kept[0], "--format", "csv"]).ok(), wanted);

    // Room again: everything works without a restart.
    fs::remove_file(&filler).unwrap();
    let small = server.csv("small.csv", 3);
    server.run(&["put", &small, "--id", "small", "--register"]).ok();
    server.wait_for_state("small", "pending");
    assert!(!server.process.stderr().contains("panicked"), "{}", server.process.stderr());

    let Server { mut process, folder, .. } = server;
    process.kill9().unwrap();
    let server = Server::start_in(folder, &["--workers", "1"]);
    server.wait_for_state("small", "completed");
    assert_eq!(server.run(&["get", &kept[0], "--format", "csv"]).ok(), wanted);
    for folder in ["quarantine", "_tmp"] {
        let left = fs::read_dir(disk.0.join("batches").join(folder)).unwrap().count();
        assert_eq!(left, 0, "refused puts leave nothing in {folder}");
    }
    drop(server);
}

#[test]
fn a_coordinator_on_a_full_disk_forgets_nothing() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let Some(disk) = Mount::new(&folder.path().join("data"), "size=8m") else { return };
    let server = Server::start_in(folder, &["--workers", "0"]);
    let ids: Vec<String> = (1..=20).map(|rows| server.put(rows, &[])).collect();
    let (registered, rest) = ids.split_at(3);
    let register = |id: &str| {
        let number = ids.iter().position(|known| known == id).unwrap();
        let file = server.path(&format!("{}.csv", number + 1));
        server.run(&["put", &file, "--id", id, "--register"])
    };
    for id in registered {
        register(id).ok();
    }
    fill(&disk.0.join("filler"));
    // The file of the coordinator has some room of its own; in the end it is full.
    let mut accepted = registered.to_vec();
    for id in rest {
        let ran = register(id);
        if ran.code() == 0 {
            accepted.push(id.clone());
        } else {
            assert!([6, 74].contains(&ran.code()), "{}", ran.stderr());
        }
    }
    fs::remove_file(disk.0.join("filler")).unwrap();
    for id in &ids {
        sheaf_testkit::wait_until(PATIENCE, "the registration to be taken", || {
            register(id).code() == 0
        })
        .unwrap();
    }
    assert!(!server.process.stderr().contains("panicked"), "{}", server.process.stderr());
    let Server { mut process, folder, .. } = server;
    process.kill9().unwrap();
    let server = Server::start_in(folder, &[]);
    for id in &ids {
        server.wait_for_state(id, "completed");
    }
    assert!(accepted.len() >= 3);
    drop(server);
}

#[test]
fn a_file_system_that_cannot_be_written_is_named() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let data = folder.path().join("data");
    let Some(_disk) = Mount::new(&data, "size=1m,ro") else { return };
    let mut process = spawn(folder.path(), &[]);
    let status = process.wait_exit(PATIENCE).unwrap();
    let text = process.stderr();
    assert_eq!(status.code(), Some(74), "{text}");
    assert!(text.contains("error: ") && text.contains("help: "), "{text}");
    assert!(text.contains(data.to_str().unwrap()), "{text}");
    assert!(text.contains("cannot be written") && text.contains("Read-only"), "{text}");
}

#[test]
fn damage_of_what_is_on_disk_is_named_and_nothing_is_overwritten() {
    // The first is a text file that a person may have touched.
    for (name, noise, advice) in [
        ("FORMAT", "rubbish\n", "write the number into it again"),
        ("coordinator.redb", "no database at all", "put a backup of coordinator.redb"),
    ] {
        let folder = sheaf_testkit::TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut server = Server::start_in(folder, &["--workers", "0"]);
        server.put(3, &["--register"]);
        server.process.terminate(PATIENCE).unwrap();
        fs::write(data.join(name), noise).unwrap();
        let data_dir = data.to_str().unwrap();
        let mut process = serve(&["--data-dir", data_dir], &[]);
        let status = process.wait_exit(PATIENCE).unwrap();
        let text = process.stderr();
        assert_eq!(status.code(), Some(9), "{name}: {text}");
        let help = text.split_once("help: ").map(|(_, help)| help).unwrap();
        assert!(text.contains("error: ") && help.contains(advice), "{name}: {text}");
        assert!(!help.contains("quarantine"), "{name}: {text}");
        assert!(text.contains(name) && !text.contains("panicked"), "{name}: {text}");
        assert_eq!(fs::read_to_string(data.join(name)).unwrap(), noise, "left as it was");
    }
}
