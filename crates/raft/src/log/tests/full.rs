//! A disk that is full: it is said, nothing acknowledged is lost, and with room
//! the log goes on.

use std::path::Path;
use std::process::Command;

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftLogStorageExt as _};
use sheaf_retry::{Code, Retryable as _};

use crate::log::{Flush, Options};
use crate::stored::{Entry, LeaderId, Vote};
use crate::testing::{append, entry, open, small};

const CHILD: &str = "SHEAF_TEST_FULL_CHILD";
const BALLAST: &str = "ballast";

fn options() -> Options {
    Options { segment_bytes: 8 << 20, ..small(Flush::Thread) }
}

/// Runs in the child, in a directory that takes about a megabyte.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
async fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Path::new(&home);
    let path = home.join("log");
    let mut log = open(&path, options());
    let mut acknowledged = 0;
    let error = loop {
        assert!(acknowledged < 10_000, "the disk is never full");
        let new = [entry(1, acknowledged, vec![3; 3_000])];
        match log.blocking_append(new).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 10, "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(log.failure().unwrap().code(), Code::DiskFull);
    drop(log);

    // While the disk is full it opens, with all that was acknowledged.
    let whole: Vec<Entry> =
        (0..acknowledged).map(|index| entry(1, index, vec![3; 3_000])).collect();
    let mut log = open(&path, options());
    let found: Vec<Entry> = log.try_get_log_entries(..).await.unwrap();
    assert!(found.len() >= whole.len() && found[..whole.len()] == whole, "an entry is lost");
    let next = log.get_log_state().await.unwrap().last_log_id.unwrap().index + 1;
    log.blocking_append([entry(2, next, vec![4; 30_000])]).await.unwrap_err();

    // A write that would fit again would lie behind a hole.
    let has_room = std::fs::remove_file(home.join(BALLAST)).is_ok();
    let vote = Vote { leader_id: LeaderId { term: 9, voted_for: 1 }, committed: false };
    let refused = log.save_vote(&vote).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    drop(log);
    if has_room {
        let mut log = open(&path, options());
        append(&mut log, [entry(2, next, vec![4; 3_000])]).await;
    }
    println!("passed with {acknowledged} entries");
}

fn run(script: &str, home: &Path) -> Option<String> {
    let out = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, home)
        .env("HOME_DIRECTORY", home)
        .output()
        .unwrap();
    let (text, problems) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if problems.contains("CANNOT") {
        return None;
    }
    assert!(out.status.success(), "{text}\n{problems}");
    assert!(text.contains("passed with"), "{text}\n{problems}");
    Some(text.into_owned())
}

const EXEC: &str = r#"exec "$1" --exact log::tests::full::child --nocapture --test-threads=1"#;

#[test]
fn a_full_disk_is_said_and_nothing_acknowledged_is_lost() {
    let home = tempfile::tempdir().unwrap();
    // In a namespace of its own: the mount ends with the child.
    let mount = r#"unshare -rm sh -c '
        mount -t tmpfs -o size=1m none "$HOME_DIRECTORY" || { echo CANNOT >&2; exit 1; }
        head -c 300000 /dev/zero > "$HOME_DIRECTORY/ballast"
    "#;
    let script =
        format!("{mount}{EXEC}' sh \"$1\" || {{ [ $? -gt 1 ] || echo CANNOT >&2; exit 1; }}");
    if run(&script, home.path()).is_none() {
        println!("SKIP: no file system of a megabyte can be mounted here");
    }
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let home = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes; the signal is ignored, so that the write fails.
    let script = format!("trap '' XFSZ; ulimit -f 1000; {EXEC}");
    assert!(run(&script, home.path()).is_some());
}
