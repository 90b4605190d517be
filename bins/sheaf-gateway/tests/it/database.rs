//! A database that several gateways write to, and a test reads meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sheaf_connectors::{AdbcDatabase, AdbcSpec, DriverPaths};
use sheaf_testkit::{Process, TempDir, python, sqlite_driver};

use crate::harness::{Kafka, PATIENCE};

/// A file of SQLite, which unlike DuckDB's may have many writers.
pub(crate) struct Sqlite {
    driver: PathBuf,
    file: PathBuf,
    database: AdbcDatabase,
    _folder: TempDir,
}

impl Sqlite {
    /// `None` where its driver is not installed.
    pub(crate) async fn create() -> Option<Self> {
        let driver = sqlite_driver()?;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("x.sqlite");
        let spec = AdbcSpec::driver(driver.to_str().unwrap(), file.to_str().unwrap());
        let database = AdbcDatabase::open(&spec, &DriverPaths::default()).await.unwrap();
        Some(Sqlite { driver, file, database, _folder: folder })
    }

    /// As `--persist-to` takes it.
    pub(crate) fn target(&self) -> String {
        format!("adbc:{}:{}", self.driver.display(), self.file.display())
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.database.execute(sql).await.unwrap();
    }

    /// The numbers of all rows that a query answers with; none where it is in
    /// use just now, or the table is not there.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<Vec<i64>> {
        let Ok(batches) = self.database.query(sql, 10_000).await else { return Vec::new() };
        let of = |batch: &arrow_array::RecordBatch, row: usize| {
            let columns = batch.columns().iter();
            columns.map(|column| column.as_primitive::<Int64Type>().value(row)).collect()
        };
        let rows =
            |batch| (0..arrow_array::RecordBatch::num_rows(batch)).map(move |row| of(batch, row));
        batches.iter().flat_map(rows).collect()
    }

    /// Rows of a table, and how many places in Kafka they are of.
    pub(crate) async fn rows(&self, table: &str) -> (i64, i64) {
        let places = "count(DISTINCT _partition * 1000000000 + _offset)";
        let found = self.numbers(&format!("SELECT count(*), {places} FROM {table}")).await;
        found.first().map_or((0, 0), |row| (row[0], row[1]))
    }

    /// Where each partition goes on.
    pub(crate) async fn positions(&self) -> BTreeMap<i64, i64> {
        let sql = "SELECT partition, next_offset FROM _sheaf_offsets";
        self.numbers(sql).await.into_iter().map(|row| (row[0], row[1])).collect()
    }

    /// Keeps everybody else from writing, and from reading if asked, until what
    /// it gives is dropped. `None` where there is no Python.
    pub(crate) fn lock(&self, how: &str) -> Option<Process> {
        let script = format!(
            "import sqlite3, sys, time\n\
             c = sqlite3.connect({:?}, isolation_level=None, timeout=60)\n\
             c.execute('BEGIN {how}')\nprint('locked', flush=True)\ntime.sleep(3600)",
            self.file.to_str().unwrap()
        );
        let mut holder = Process::command(python()?).args(["-c", &script]).spawn().unwrap();
        holder.wait_for_line(PATIENCE, |line| (line == "locked").then_some(())).unwrap();
        Some(holder)
    }
}

/// What a group has committed of a topic; none where Kafka does not say.
pub(crate) struct Commits {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Commits {
    pub(crate) fn of(kafka: &Kafka, topic: &str, partitions: i32) -> Self {
        let mut config = kafka.config();
        let consumer = config.set("group.id", "sheaf-gateway").create().unwrap();
        Commits { consumer, topic: topic.to_owned(), partitions }
    }

    pub(crate) fn now(&self) -> BTreeMap<i64, i64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let Ok(found) = self.consumer.committed_offsets(list, PATIENCE / 10) else {
            return BTreeMap::new();
        };
        let offset = |partition| match found.find_partition(&self.topic, partition)?.offset() {
            Offset::Offset(offset) => Some((i64::from(partition), offset)),
            _ => None,
        };
        (0..self.partitions).filter_map(offset).collect()
    }
}
