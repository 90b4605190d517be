//! A full disk loses nothing and says what it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use sheaf_connectors::Sink as _;
use sheaf_connectors::conformance::{rows, schema};
use sheaf_retry::{Code, Disposition, Retryable as _};

use crate::common::{self, FORMATS, key, leftovers, options_for};

/// A file system of one megabyte, where this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let at = at.to_owned();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "sheaf-test"])
            .arg(&at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_transient_and_leaves_nothing() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(dir.path()) else {
            println!("SKIP: no file system can be mounted here");
            return;
        };
        let sink = common::sink(dir.path(), format).await;
        let small = common::write(&*sink, &key("small", 1), schema(), &[rows(10)]).await.unwrap();
        let large = vec![rows(100_000); 4];
        let full = common::write(&*sink, &key("large", 1), schema(), &large).await.unwrap_err();
        assert_eq!(full.code(), Code::DiskFull, "{format}: {full:?}");
        assert!(matches!(full.disposition(), Disposition::Transient { .. }), "{format}");
        assert_eq!(leftovers(dir.path()), [""; 0], "{format}");
        // Room is there when the last thread that wrote has closed its file.
        let again =
            async || common::write(&*sink, &key("large", 2), schema(), &[rows(10)]).await.ok();
        let patience = std::time::Duration::from_secs(20);
        let again = sheaf_testkit::wait_for_async(patience, "room", again).await.unwrap();
        assert!(again.created, "{format}: there is room again");
        assert_eq!(sink.committed(&key("small", 0).id).await.unwrap().unwrap().rows, small.rows);
        assert_eq!(common::visible_rows(dir.path(), options_for(format)).await, 20, "{format}");
        drop(disk);
    }
}
