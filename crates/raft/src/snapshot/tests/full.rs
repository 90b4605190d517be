//! No room for a snapshot: the one before stays, and nothing is left over.

use std::path::Path;
use std::process::Command;

use sheaf_retry::{Code, Retryable as _};

use super::{batch, head, make, names, open};

const CHILD: &str = "SHEAF_TEST_SNAPSHOT_FULL_CHILD";

/// Runs in the child, whose files may not have more than half a megabyte.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Path::new(&home);
    let snapshots = open(home);
    let former = make(&snapshots, 1, 1);
    let before = names(home);
    let mut writer = snapshots.write(&head(2)).unwrap();
    let error = (0..1_000).find_map(|number| writer.write(&batch(number, 10, 1_000)).err());
    assert_eq!(error.expect("it is full").code(), Code::DiskFull);
    drop(writer);
    assert_eq!(names(home), before);
    drop(snapshots);
    assert_eq!(open(home).current().unwrap().id(), former.id());
    println!("passed");
}

#[test]
fn a_snapshot_without_room_is_given_up_and_the_one_before_stays() {
    let home = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes; the signal is ignored, so that the write fails.
    let script = r#"trap '' XFSZ; ulimit -f 1000;
        exec "$1" --exact snapshot::tests::full::child --nocapture --test-threads=1"#;
    let out = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, home.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("passed"), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
}
