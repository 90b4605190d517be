//! A full disk loses nothing and says what it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use sheaf_connectors::conformance::{rows, schema};
use sheaf_connectors::{FilesSpec, Sink as _, Span, TopicFiles};
use sheaf_retry::{Code, Disposition, Retryable as _, SystemClock};

use crate::adbc::{at, duckdb, number, numbers, rows as table_rows, sqlite};
use crate::common::{self, FORMATS, key, leftovers, options_for};

/// A file system of few megabytes, where this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        let at = at.to_owned();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "sheaf-test"])
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
        let Some(disk) = SmallDisk::mount(dir.path(), 1) else {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_full_disk_keeps_what_it_has_and_goes_on_later() {
    for kind in ["duckdb", "sqlite"] {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(dir.path(), 16) else {
            println!("SKIP: no file system can be mounted here");
            return;
        };
        let path = dir.path().join("a");
        let opened = if kind == "duckdb" { duckdb(&path).await } else { sqlite(&path).await };
        let Some(database) = opened else { continue };
        let tables = database.tables("g").await.unwrap();
        let append = async |next: i64| {
            let rows = table_rows("t", [numbers(next - 1_000..next)]);
            tables.append(&[rows], &[at("t", 0, next)]).await
        };
        append(1_000).await.unwrap();
        let filler = dir.path().join("filler");
        // As much as there is room for; that it does not all fit is the point.
        drop(std::fs::write(&filler, vec![1; 32 << 20]));
        let mut next = 1_000;
        let full = loop {
            match append(next + 1_000).await {
                Ok(_) => next += 1_000,
                Err(error) => break error,
            }
            assert!(next < 1_000_000, "{kind}: the disk never gets full");
        };
        assert_eq!(full.code(), Code::DiskFull, "{kind}: {full:?}");
        std::fs::remove_file(filler).unwrap();
        append(next + 1_000).await.unwrap();
        assert_eq!(tables.positions().await.unwrap(), [at("t", 0, next + 1_000)], "{kind}");
        let count = number(&database, "SELECT count(DISTINCT n) FROM t").await;
        assert_eq!(count, next + 1_000, "{kind}");
        drop((tables, database));
        drop(disk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_on_a_full_disk_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), 1) else {
        println!("SKIP: no file system can be mounted here");
        return;
    };
    let spec: FilesSpec = format!("parquet:{}", dir.path().display()).parse().unwrap();
    let files = TopicFiles::open(&spec, "group", SystemClock::shared()).await.unwrap();
    let span = |first, end, count, beside| Span {
        topic: "orders".to_owned(),
        partition: 0,
        first,
        end,
        rows: vec![rows(count)],
        beside: Some(("orders.dead-letters".to_owned(), vec![rows(beside)])),
    };
    files.append(vec![span(0, 5, 4, 1)]).await.unwrap();
    // The rows do not fit; then what is beside them does not.
    for (count, beside) in [(1_000_000, 1), (1, 1_000_000)] {
        let full = files.append(vec![span(5, 9, count, beside)]).await.unwrap_err();
        assert_eq!(full.code(), Code::DiskFull, "{full:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("_sheaf/tmp")).unwrap().count(), 0);
    assert_eq!(files.append(vec![span(5, 8, 2, 1)]).await.unwrap(), 3);
    let again = TopicFiles::open(&spec, "group", SystemClock::shared()).await.unwrap();
    let claimed = again.claim(&[("orders".to_owned(), 0)]).await.unwrap();
    assert_eq!(claimed[0].next_offset, 8);
    let pending = dir.path().join("_sheaf/pending/orders/partition-0");
    assert_eq!(std::fs::read_dir(pending).unwrap().count(), 0);
}
