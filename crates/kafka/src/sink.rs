//! Where the rows of topics go beyond their streams, with their offsets.

mod batches;
mod files;
mod positions;
mod storable;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::Error;
use crate::gateway::DEAD_LETTERS;
use crate::stream::rows_from_offset;
use crate::tracker::TopicPartition;

pub use batches::{BatchSink, BatchSinkOptions};
pub use files::FileSink;
pub use tables::TableSink;

/// What came of consecutive messages of one partition.
#[derive(Clone, Debug)]
pub struct TopicRows {
    /// The partition.
    pub of: TopicPartition,
    /// The rows, with the columns that every stream has (`_offset` and others).
    pub rows: Option<RecordBatch>,
    /// The messages that are no rows.
    pub dead_letters: Option<RecordBatch>,
    /// The offset behind the last message.
    pub end: i64,
}

impl TopicRows {
    /// What is not stored yet where all before the offset `stored` is.
    #[must_use]
    pub fn beyond(mut self, stored: i64) -> Self {
        for part in [&mut self.rows, &mut self.dead_letters] {
            let left = part.as_ref().map(|rows| rows_from_offset(rows, stored));
            *part = left.filter(|rows| rows.num_rows() > 0);
        }
        self
    }

    /// Its batches, each with the name of the stream that it is in too.
    pub fn by_stream(&self) -> impl Iterator<Item = (Arc<str>, &RecordBatch)> {
        let dead = || Arc::from(format!("{}{DEAD_LETTERS}", self.of.topic));
        let rows = self.rows.iter().map(|rows| (Arc::clone(&self.of.topic), rows));
        rows.chain(self.dead_letters.iter().map(move |rows| (dead(), rows)))
    }

    /// Rows and bytes of it in memory.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.by_stream().fold((0, 0), |(rows, bytes), (_, batch)| {
            (rows + batch.num_rows(), bytes + batch.get_array_memory_size())
        })
    }
}

/// How much a sink wants to take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Rows beyond which it takes no more.
    pub rows: usize,
    /// Bytes in memory beyond which it takes no more.
    pub bytes: usize,
    /// How long rows wait for others to come with them.
    pub linger: Duration,
}

/// Takes the rows of topics exactly once, and knows how far they reach.
///
/// 1. After the `Ok` of `append` its rows survive a crash, and a `claim` of
///    their partitions, by whomever, goes on behind them.
/// 2. After an `Err` each of the chunks is there as a whole or not at all, and of
///    each partition those that are there are the first ones. `append` with the
///    same chunks again does the rest.
/// 3. Rows are taken up from where the last `claim` of their partition, or the
///    `append` after it, came to. Where another writer has been there meanwhile,
///    `append` is an error of the code `stale_fence` and takes nothing of that
///    partition, until it is claimed again.
/// 4. Rows of messages before the place where a partition is are left out by
///    whoever calls: see [`TopicRows::beyond`].
///
/// Calls come one after the other, but for `claim` and `begin`, which come from
/// another thread.
#[async_trait]
pub trait TopicSink: Send + Sync + std::fmt::Debug + 'static {
    /// Where these partitions go on; those that are missing begin. `committed` is
    /// what Kafka knows, where [`TopicSink::needs_committed`] and they came just now;
    /// else a sink goes on from what it knows.
    ///
    /// # Errors
    /// Those of the place, transient where another try may help.
    async fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error>;

    /// These begin there; nothing is stored of them.
    ///
    /// # Errors
    /// Those of the place.
    async fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error>;

    /// Stores what came, in this order; the number of rows that were not there.
    ///
    /// # Errors
    /// `stale_fence` by rule 3; transient ones where another try may help.
    async fn append(&self, chunks: &[TopicRows]) -> Result<u64, Error>;

    /// Of a sink that takes rows before they are kept: how many of the chunks with rows that
    /// `append` took are kept, in their order. Rule 1 holds for these only, and Kafka is told
    /// of no more. An `Err` of its `append` ends the reading, and so does the end of the
    /// channel.
    fn kept(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Whether Kafka's offsets are what it goes on from: partitions that begin are
    /// then committed where they begin.
    fn needs_committed(&self) -> bool;

    /// What it takes at once.
    fn portion(&self) -> Portion;

    /// Where the rows of a stream go, for people.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they cannot go anywhere.
    fn place_of(&self, stream: &str) -> Result<String, Error>;
}
