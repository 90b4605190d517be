//! Rows and offsets into a database, in one transaction.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sheaf_connectors::{AdbcDatabase, AdbcTables, TableNames, TableRows};

use super::positions::{named, places, position, positions};
use super::{Portion, TopicRows, TopicSink};
use crate::error::Error;
use crate::tracker::TopicPartition;

/// What one transaction takes.
const PORTION: Portion =
    Portion { rows: 64 << 10, bytes: 32 << 20, linger: Duration::from_millis(250) };

/// The tables of a database, one for each stream. The positions of the group are
/// in the transaction of their rows.
#[derive(Debug)]
pub struct TableSink {
    tables: AdbcTables,
    names: Mutex<TableNames>,
    portion: Portion,
}

impl TableSink {
    /// Opens the tables of a consumer group.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(database: &AdbcDatabase, group: &str) -> Result<Self, Error> {
        let (tables, names) = (database.tables(group).await?, Mutex::default());
        Ok(TableSink { tables, names, portion: PORTION })
    }

    /// Has rows wait so long for others; a quarter of a second if nothing is said.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.portion.linger = linger;
        self
    }
}

#[async_trait]
impl TopicSink for TableSink {
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        _committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        Ok(places(self.tables.claim(&named(partitions)).await?))
    }

    async fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.tables.append(&[], &positions(places)).await?;
        Ok(())
    }

    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error> {
        let mut tables: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        let mut ends: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
        for chunk in chunks {
            for (stream, rows) in chunk.by_stream() {
                tables.entry(self.place_of(&stream)?).or_default().push(rows.clone());
            }
            ends.insert(&chunk.of, chunk.end);
        }
        let rows = tables.into_iter().map(|(table, batches)| TableRows { table, batches });
        let positions = ends.into_iter().map(|(of, end)| position(of, end));
        let (rows, positions): (Vec<_>, Vec<_>) = (rows.collect(), positions.collect());
        Ok(self.tables.append(&rows, &positions).await?.rows)
    }

    fn needs_committed(&self) -> bool {
        false
    }

    fn portion(&self) -> Portion {
        self.portion
    }

    fn place_of(&self, stream: &str) -> Result<String, Error> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(names.name(stream)?)
    }
}
