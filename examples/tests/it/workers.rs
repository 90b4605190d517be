//! Examples with several processes: their rows are those of pyarrow, whoever
//! is killed, and none outlives its parent.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_until};

use crate::run::binary;

/// Only bounds how long a broken example hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
/// So small that a share of 6,250 flights is many chunks.
const SMALL: [&str; 4] = ["--batch-rows", "256", "--chunk-bytes", "32KiB"];

/// Runs an example on the small tables and has pyarrow look at its result; what it
/// reports. `None` where there is no pyarrow.
fn checked(name: &str, arguments: &[&str]) -> Option<Value> {
    let python = sheaf_testkit::python()?;
    let temporary = TempDir::new().unwrap();
    let mut example = Process::command(binary(name))
        .args(["--data", DATA, "--json", "--check", "--python"])
        .arg(python)
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .spawn()
        .unwrap();
    let status = example.wait_exit(PATIENCE).unwrap();
    let (printed, notes) = (example.stdout(), example.stderr());
    assert!(status.success(), "{name} {arguments:?}: {status}\n{printed}\n{notes}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{name} leaves {left:?}");
    let report: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(report["checked"], true);
    Some(report)
}

#[test]
fn a_join_over_processes_has_the_rows_of_pyarrow() {
    for workers in ["1", "3"] {
        let Some(report) = checked("shuffle_join", &["--workers", workers]) else { return };
        assert_eq!(report["rows"], 24_948);
        assert_eq!((&report["restarts"], &report["resent"]), (&0.into(), &0.into()));
        let of = |key: &str| report[key].as_f64().unwrap();
        assert!(of("bytes") > 1e6 && of("gb_per_second") > 0.0 && of("seconds") > 0.0, "{report}");
        assert!(of("peak_rss_bytes") > 1e6 && of("peak_rss_bytes") <= of("peak_rss_bytes_sum"));
    }
}

#[test]
fn a_broadcast_join_has_the_rows_of_pyarrow() {
    let Some(report) = checked("broadcast_join", &["--workers", "3"]) else { return };
    assert_eq!((&report["rows"], &report["partitions"]), (&24_948.into(), &3.into()));
}

#[test]
fn groups_over_processes_are_those_of_pyarrow() {
    let Some(report) = checked("group_by", &["--workers", "3", "--partitions", "5"]) else {
        return;
    };
    assert_eq!((&report["rows"], &report["partitions"]), (&3_116.into(), &5.into()));
}

fn killed(name: &str, role: &str, seeds: std::ops::Range<u32>) {
    for seed in seeds {
        let seed = seed.to_string();
        let arguments = [&["--kill", role, "--seed", &seed][..], &SMALL].concat();
        let Some(report) = checked(name, &arguments) else { return };
        assert_eq!(report["restarts"], 1, "seed {seed}");
        // At least what the dead one held, by all that had sent to it.
        assert!(report["resent"].as_u64().unwrap() >= 4, "seed {seed}: {report}");
    }
}

#[test]
fn a_sender_may_be_killed_at_any_moment() {
    killed("shuffle_join", "sender", 0..6);
    killed("group_by", "sender", 6..8);
    killed("broadcast_join", "sender", 8..10);
}

#[test]
fn a_receiver_may_be_killed_at_any_moment() {
    killed("shuffle_join", "receiver", 0..6);
    killed("group_by", "receiver", 6..8);
    killed("broadcast_join", "receiver", 8..10);
}

/// Processes whose parent is this one.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn no_worker_outlives_its_parent() {
    let temporary = TempDir::new().unwrap();
    // So small chunks that it is still at it when it is killed.
    let mut parent = Process::command(binary("shuffle_join"))
        .args(["--data", DATA, "--workers", "3", "--batch-rows", "1", "--chunk-bytes", "1KiB"])
        .env("TMPDIR", temporary.path())
        .spawn()
        .unwrap();
    let pid = parent.pid();
    wait_until(PATIENCE, "three workers", || children_of(pid).len() == 3).unwrap();
    let children = children_of(pid);
    parent.kill9().unwrap();
    let is_there = |pid: &u32| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
    let gone = || !children.iter().any(is_there);
    wait_until(PATIENCE, "the workers to be gone", gone).unwrap();
}

fn refused(arguments: &[&str]) -> String {
    let mut example = Process::command(binary("shuffle_join")).args(arguments).spawn().unwrap();
    assert!(!example.wait_exit(PATIENCE).unwrap().success(), "{arguments:?}");
    example.stderr()
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let empty = TempDir::new().unwrap();
    let folder = empty.path().to_str().unwrap();
    let told = refused(&["--data", folder]);
    assert!(told.contains("weather.parquet") && told.contains("cargo xtask data"), "{told}");
    let told = refused(&["--data", DATA, "--workers", "1", "--kill", "sender"]);
    assert!(told.contains("two workers"), "{told}");
    let told = refused(&["--data", DATA, "--out", DATA]);
    assert!(told.contains("is not empty"), "{told}");
    let told = refused(&["--data", DATA, "--check", "--python", "/no/python"]);
    assert!(told.contains("/no/python") && told.contains("xtask services"), "{told}");
}
