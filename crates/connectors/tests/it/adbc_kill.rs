//! Writers of tables, killed with SIGKILL at any moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use sheaf_connectors::AdbcDatabase;
use sheaf_retry::SystemClock;

use crate::adbc::{at, duckdb, number, rows, sqlite};
use crate::worker::{self, Worker, say};

/// Rows of a batch of one partition.
const ROWS: i64 = 500;

/// The longest that a writer lives after it has written something new.
const LONGEST_MS: u64 = 40;

/// By which each kill gets its moment.
const SEED: u64 = 7;

async fn open(kind: &str, path: &Path) -> Option<AdbcDatabase> {
    if kind == "duckdb" { duckdb(path).await } else { sqlite(path).await }
}

#[test]
#[ignore = "the other test here runs and kills it"]
fn child() {
    let Some(task) = worker::task() else { return };
    let (kind, path) = task.split_once(' ').unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(write_until_killed(kind, &PathBuf::from(path)));
}

/// Two partitions into two tables, whose columns change on the way.
async fn write_until_killed(kind: &str, path: &Path) {
    let database = open(kind, path).await.unwrap();
    let tables = database.tables("g").await.unwrap();
    let claimed = tables.claim(&[("t".into(), 0), ("t".into(), 1)]).await.unwrap();
    let mut next = claimed.first().map_or(0, |position| position.next_offset);
    loop {
        let batch = batch(next);
        let two = [rows("a", [batch.clone()]), rows("b", [batch.slice(0, 7), batch.slice(7, 493)])];
        next += ROWS;
        tables.append(&two, &[at("t", 0, next), at("t", 1, next)]).await.unwrap();
        say(&next.to_string());
    }
}

fn batch(from: i64) -> RecordBatch {
    let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + ROWS));
    let text = (from..from + ROWS).map(|offset| format!("message {offset}"));
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(text));
    // Every third batch has a column that was never there.
    let name = format!("text_{}", from / ROWS / 3 % 20);
    RecordBatch::try_from_iter([("off", offsets), (name.as_str(), text)]).unwrap()
}

/// Kills writers of tables at any moment: no row lost, none doubled.
#[tokio::test(flavor = "multi_thread")]
async fn soak_kill_of_table_writers() {
    let kills = if sheaf_testkit::soak() { 50 } else { 5 };
    for kind in ["duckdb", "sqlite"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        if open(kind, &path).await.is_none() {
            continue;
        }
        let mut acknowledged = 0;
        let mut random = SEED;
        for kill in 0..kills {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut writer =
                Worker::start("adbc_kill::child", &format!("{kind} {}", path.display()));
            // At least one commit: every life makes progress.
            let before = acknowledged;
            acknowledged = writer.said().unwrap().parse().unwrap();
            assert!(acknowledged > before, "{kind}: no progress after kill {kill}");
            // sleep: the kill is to come at any moment, whatever the writer does then
            SystemClock::shared()
                .sleep_blocking(Duration::from_micros((random >> 33) % (LONGEST_MS * 1_000)));
            writer.kill();
            while let Some(line) = writer.said() {
                acknowledged = line.parse().unwrap();
            }
            let stored = check(kind, &path, kill).await;
            assert!(
                stored >= acknowledged,
                "{kind}: {stored} after {acknowledged} was acknowledged"
            );
            acknowledged = stored;
        }
        println!("{kind}: {kills} kills, {acknowledged} offsets twice, each there once");
    }
}

/// That tables and positions agree to the row; gives the position.
async fn check(kind: &str, path: &Path, kill: u64) -> i64 {
    let database = open(kind, path).await.unwrap();
    let tables = database.tables("g").await.unwrap();
    let positions = tables.positions().await.unwrap();
    let stored = positions[0].next_offset;
    assert_eq!(positions, [at("t", 0, stored), at("t", 1, stored)]);
    for table in ["a", "b"] {
        for what in ["count(*)", "count(DISTINCT off)", "max(off) + 1"] {
            let found = number(&database, &format!("SELECT {what} FROM {table}")).await;
            assert_eq!(found, stored, "{kind}, kill {kill} of seed {SEED}: {what} of {table}");
        }
    }
    stored
}
