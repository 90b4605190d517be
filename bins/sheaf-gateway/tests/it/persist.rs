//! Rows in a database, each once.

use std::path::Path;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_testkit::{TempDir, libduckdb, soak};

use crate::harness::Kafka;
use crate::orders::{is_poison, kill_over};

/// Numbers that a query answers with, while no gateway has the file.
pub(crate) async fn numbers(library: &Path, path: &Path, sql: &str) -> Vec<i64> {
    let drivers = DriverPaths { flag: Some(library.into()), ..DriverPaths::default() };
    let database = AdbcDatabase::open(&AdbcSpec::duckdb(path), &drivers).await.unwrap();
    let rows = database.query(sql, 10_000).await.unwrap();
    let row = |batch: &arrow_array::RecordBatch| {
        let columns = batch.columns().iter();
        columns.map(|column| column.as_primitive::<Int64Type>().value(0)).collect::<Vec<_>>()
    };
    rows.first().map(row).unwrap_or_default()
}

const COUNTS: &str = "SELECT count(*), count(DISTINCT (_partition, _offset)), \
                      CAST(sum(n) AS BIGINT) FROM orders";

/// Killed at any moment: what is in the database is what was produced.
#[tokio::test(flavor = "multi_thread")]
async fn soak_killed_gateways_persist_every_message_once() {
    let (Some(kafka), Some(library)) = (Kafka::start(), libduckdb()) else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.duckdb");
    let (kills, each) = (if soak() { 50 } else { 5 }, 2_000_i64);
    kafka.create("orders", 4).await;
    let start = || {
        let path = path.to_str().unwrap();
        let library = library.to_str().unwrap();
        let persist = ["--persist", "--db-path", path, "--libduckdb", library];
        kafka.gateway("orders", &persist)
    };
    let produced = kill_over(&kafka, kills, each, start).await;
    let all: Vec<i64> = (0..produced + 4).filter(|n| !is_poison(*n) || *n >= produced).collect();
    let (count, sum) = (i64::try_from(all.len()).unwrap(), all.iter().sum::<i64>());
    assert_eq!(numbers(&library, &path, COUNTS).await, [count, count, sum]);
    let dead = produced + 4 - count;
    let letters = "SELECT count(*), count(DISTINCT (_partition, _offset)) FROM orders_dead_letters";
    assert_eq!(numbers(&library, &path, letters).await, [dead, dead]);
}
