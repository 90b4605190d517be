//! The Rust examples, as `cargo run --example NAME` runs them.

use std::path::PathBuf;
use std::time::Duration;

use sheaf_testkit::{Process, TempDir, Valkey};

/// Only bounds how long a broken example hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cargo builds the examples of a package with its tests, into `examples/`
/// beside the folder of the test binaries.
pub(crate) fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    let advice = "run `cargo test` without --test, or `cargo build --examples` first";
    assert!(path.is_file(), "no example at {}: {advice}", path.display());
    path
}

/// Runs it to its end; gives what it printed. It has to clean up behind itself.
fn run(name: &str) -> String {
    run_with(name, &[])
}

fn run_with(name: &str, arguments: &[&str]) -> String {
    let temporary = TempDir::new().unwrap();
    let mut example = Process::command(binary(name))
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .spawn()
        .unwrap();
    let status = example.wait_exit(PATIENCE).unwrap();
    let printed = example.stdout();
    assert!(status.success(), "{name}: {status}\n{printed}\n{}", example.stderr());
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{name} leaves {left:?}");
    printed
}

fn assert_has(printed: &str, lines: &[&str]) {
    for line in lines {
        assert!(printed.contains(line), "no {line:?} in:\n{printed}");
    }
}

#[test]
fn embed_store() {
    let printed = run("embed_store");
    let row = "| EV      | 4404   | PVD  | 147       |";
    assert_has(&printed, &["put 25000 rows", "put again: created false", "| carrier | flight |"]);
    assert_has(&printed, &[row, "over Flight: 25000 rows, 19 columns", "1 record batch of them"]);
}

#[test]
fn raft_other_engine() {
    let printed = run("raft_other_engine");
    assert_has(&printed, &["2 of 2 promised, 2 committed", "node 2 decided \"blue\""]);
    assert_has(&printed, &["node 3 decided \"blue\"", "\"server\": true", "messages sent: 4"]);
}

#[test]
fn raft_three_nodes() {
    let printed = run("raft_three_nodes");
    assert_has(&printed, &["a leader of 3: b\"5\" bytes", "another leader: true"]);
    assert_has(&printed, &["a leader of 2: b\"12\" bytes"]);
}

#[test]
fn raft_state_machine() {
    let printed = run("raft_state_machine");
    assert_has(&printed, &["new: b\"done\"", "late: b\"it has another value\""]);
    assert_has(&printed, &["no command: b\"unreadable\"", "read on a follower: Some(500)"]);
    assert_has(&printed, &["read on a new node: Some(500)", "with a snapshot: true"]);
    assert_has(&printed, &["equal: true"]);
}

#[test]
fn embed_pipeline() {
    let printed = run("embed_pipeline");
    assert_has(&printed, &[" completed  25", "   pending   0", "    failed   0"]);
    assert_has(&printed, &["25 Parquet files, one per batch"]);
}

#[test]
fn custom_processor() {
    let printed = run("custom_processor");
    assert_has(&printed, &["is tried again: attempt 1: carrier list is down"]);
    assert_has(&printed, &["completed: 5, failed: 1", "EV  3730 flights,  22.1 minutes"]);
}

#[test]
fn valkey_coordinator() {
    let Some(valkey) = Valkey::start(&[]).unwrap() else { return };
    let printed = run_with("valkey_coordinator", &[&valkey.addr().to_string()]);
    assert_has(&printed, &["1000 done, each once: true", "Pending: 0", "Completed: 1000"]);
}

#[test]
fn retry_policy() {
    assert_has(&run("retry_policy"), &["done: 25000 rows"]);
}

#[cfg(feature = "backoff")]
#[test]
fn retry_backoff() {
    assert_has(&run("retry_backoff"), &["attempt 3: served"]);
}
