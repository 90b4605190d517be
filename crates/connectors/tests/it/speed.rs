//! Commits a second, to look at: `cargo test -p sheaf-connectors speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use sheaf_connectors::conformance::{rows, schema};

use crate::adbc::{at, duckdb, rows as table_rows, sqlite};
use crate::common::{self, FORMATS, key};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, does not check"]
async fn speed() {
    const COMMITS: u64 = 800;
    for tasks in [1, 8] {
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            let sink = common::sink(dir.path(), format).await;
            let start = Instant::now();
            let running = (0..tasks).map(|task| {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    for n in (0..COMMITS).filter(|n| n % tasks == task) {
                        let key = key(&format!("b{n}"), n);
                        common::write(&*sink, &key, schema(), &[rows(1_000)]).await.unwrap();
                    }
                })
            });
            futures::future::try_join_all(running.collect::<Vec<_>>()).await.unwrap();
            let rate = COMMITS as f64 / start.elapsed().as_secs_f64();
            println!("{format}: {rate:.0} commits/s with {tasks} tasks");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, does not check"]
async fn speed_of_tables() {
    const APPENDS: u32 = 50;
    for size in [100, 8_192, 100_000] {
        for kind in ["duckdb", "sqlite"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let opened = if kind == "duckdb" { duckdb(&path).await } else { sqlite(&path).await };
            let Some(database) = opened else { continue };
            let tables = database.tables("g").await.unwrap();
            let rows = table_rows("t", [rows(size)]);
            let start = Instant::now();
            for next in 1..=APPENDS {
                tables
                    .append(std::slice::from_ref(&rows), &[at("t", 0, next.into())])
                    .await
                    .unwrap();
            }
            let each = start.elapsed() / APPENDS;
            let rate = f64::from(size) / each.as_secs_f64();
            println!("{kind}: {each:?} for {size} rows and a position, {rate:.0} rows/s");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(database) = duckdb(&dir.path().join("a")).await else { return };
    let tables = database.tables("g").await.unwrap();
    for round in 1..=3 {
        let positions: Vec<_> = (0..1_000).map(|partition| at("t", partition, round)).collect();
        let start = Instant::now();
        tables.append(&[], &positions).await.unwrap();
        println!("duckdb: {:?} for 1,000 positions", start.elapsed());
    }
}
