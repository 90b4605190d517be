//! Rows and offsets into a database, in one transaction.
//!
//! What has to hold:
//! - Where a partition goes on after a start, the database says: its position is
//!   in the transaction of its rows, so that every row is there once, whenever
//!   the gateway is killed.
//! - Kafka is told of an offset after that transaction, so that lag is true; what
//!   it says is not read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use sheaf_connectors::{AdbcDatabase, AdbcTables, Position, TableNames, TableRows};
use sheaf_retry::{Class, Code, RetryPolicy, Retryable as _, SharedClock};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::stream::rows_from_offset;
use crate::streams::Streams;
use crate::tracker::{SpanId, TopicPartition, Tracker};

/// Chunks that wait to be written.
const QUEUE: usize = 64;
/// Rows of one transaction, beyond which it takes no more.
const ROWS: usize = 64 << 10;
/// Bytes of them.
const BYTES: usize = 32 << 20;
/// How long rows wait for others to share their transaction.
const LINGER: Duration = Duration::from_millis(250);

/// How long a database that does not take rows is left alone at most.
const LONGEST: Duration = Duration::from_secs(5);

/// How often the database is asked again where partitions go on.
const CLAIMS: u32 = 10;
/// And when.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// What came of one chunk.
pub(crate) struct Converted {
    /// Of the chunk.
    pub(crate) span: SpanId,
    /// Rows of its topic, and its dead letters, by the names of their streams.
    pub(crate) rows: Vec<(Arc<str>, RecordBatch)>,
    /// The offset behind its last message.
    pub(crate) end: i64,
}

impl Converted {
    /// What is not stored yet where all before the offset `stored` is.
    fn beyond(mut self, stored: i64) -> Self {
        for (_, rows) in &mut self.rows {
            *rows = rows_from_offset(rows, stored);
        }
        self.rows.retain(|(_, rows)| rows.num_rows() > 0);
        self
    }
}

/// A database that takes what topics become. The writer ends once all of these
/// are gone.
#[derive(Clone)]
pub(crate) struct Persister {
    clock: SharedClock,
    tables: Tables,
    queue: mpsc::Sender<Converted>,
}

/// Tables of topics.
#[derive(Clone)]
pub(crate) struct Tables {
    tables: AdbcTables,
    names: Arc<Mutex<TableNames>>,
}

impl Persister {
    /// Opens the tables of a group, and what fills them until `queue` is over.
    pub(crate) async fn open(
        database: &AdbcDatabase,
        group: &str,
        clock: &SharedClock,
    ) -> Result<(Self, mpsc::Receiver<Converted>), Error> {
        let tables = Tables { tables: database.tables(group).await?, names: Arc::default() };
        let (queue, jobs) = mpsc::channel(QUEUE);
        Ok((Persister { clock: Arc::clone(clock), tables, queue }, jobs))
    }

    /// Where partitions go on that come just now.
    pub(crate) fn claim_blocking(
        &self,
        runtime: &tokio::runtime::Handle,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let named: Vec<_> =
            partitions.iter().map(|one| (one.topic.to_string(), one.partition)).collect();
        let mut tries = 0;
        let positions = loop {
            match runtime.block_on(self.tables.tables.claim(&named)) {
                Ok(positions) => break positions,
                // A moment: who waits longer in here loses its partitions.
                Err(error) if tries < CLAIMS && error.code().class() == Class::Transient => {
                    tracing::warn!(%error, "the database does not say where to go on");
                    runtime.block_on(self.clock.sleep(CLAIM_AGAIN));
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let known = positions.into_iter().map(|position| {
            let Position { topic, partition, next_offset } = position;
            (TopicPartition { topic: topic.into(), partition }, next_offset)
        });
        Ok(known.collect())
    }

    /// Says that these partitions begin there, where nothing is stored of them.
    pub(crate) fn begin_blocking(
        &self,
        runtime: &tokio::runtime::Handle,
        places: &[(TopicPartition, i64)],
    ) -> Result<(), Error> {
        let positions = places.iter().map(|(TopicPartition { topic, partition }, offset)| {
            Position { topic: topic.to_string(), partition: *partition, next_offset: *offset }
        });
        let positions: Vec<_> = positions.collect();
        runtime.block_on(self.tables.tables.append(&[], &positions))?;
        Ok(())
    }

    /// Its tables.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Has a chunk written; waits while others are.
    pub(crate) async fn write(&self, converted: Converted) -> Result<(), Error> {
        self.queue.send(converted).await.map_err(|_| Error::StreamOver)
    }
}

impl Tables {
    /// The name of a topic's table, which is its own.
    pub(crate) fn name(&self, topic: &str) -> Result<String, Error> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(names.name(topic)?)
    }
}

/// Writes what comes, until no more can.
pub(crate) struct Writer {
    pub(crate) tables: Tables,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: SharedClock,
}

impl Writer {
    pub(crate) async fn run(self, mut jobs: mpsc::Receiver<Converted>) {
        while let Some(first) = jobs.recv().await {
            let batch = self.collect(first, &mut jobs).await;
            if let Err(error) = self.write(batch).await {
                // Nothing is committed from here on, and a restart reads it again.
                tracing::error!(%error, "rows cannot be persisted; reading stops");
                self.metrics.persist_failed();
                return;
            }
        }
    }

    /// What one transaction takes.
    async fn collect(
        &self,
        first: Converted,
        jobs: &mut mpsc::Receiver<Converted>,
    ) -> Vec<Converted> {
        let size = |one: &Converted| {
            let rows = one.rows.iter().map(|(_, rows)| rows);
            rows.fold((0, 0), |(count, bytes), rows| {
                (count + rows.num_rows(), bytes + rows.get_array_memory_size())
            })
        };
        let (mut rows, mut bytes) = size(&first);
        let mut batch = vec![first];
        let mut late = std::pin::pin!(self.clock.sleep(LINGER));
        while rows < ROWS && bytes < BYTES {
            tokio::select! {
                next = jobs.recv() => {
                    let Some(next) = next else { break };
                    let (more_rows, more_bytes) = size(&next);
                    (rows, bytes) = (rows + more_rows, bytes + more_bytes);
                    batch.push(next);
                }
                () = &mut late => break,
            }
        }
        batch
    }

    /// One transaction; tried until it succeeds where that may help.
    async fn write(&self, mut batch: Vec<Converted>) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            // Partitions that went are somebody else's.
            batch.retain(|one| self.tracker.is_current(&one.span));
            if batch.is_empty() {
                return Ok(());
            }
            let (rows, positions) = self.transaction(&batch)?;
            let error = match self.tables.tables.append(&rows, &positions).await {
                Ok(appended) => {
                    self.done(&batch, appended.rows);
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_fenced = error.code() == Code::StaleFence;
            if !is_fenced && error.code().class() != Class::Transient {
                return Err(error.into());
            }
            if is_fenced {
                batch = self.reconciled(batch).await?;
            }
            let wait = RetryPolicy::QUEUE.delay_seeded(attempt, 0).unwrap_or(LONGEST).min(LONGEST);
            tracing::warn!(%error, ?wait, "rows are not persisted yet");
            self.metrics.persist_failed();
            attempt = attempt.saturating_add(1);
            self.clock.sleep(wait).await;
        }
    }

    /// Somebody else wrote the same partitions: a member that was slow to let them
    /// go, or this one, whose answer was lost. Each transaction goes on from the
    /// position of the one before it, so what is stored is stored once, whoever
    /// did it; the rest is written from there on.
    async fn reconciled(&self, batch: Vec<Converted>) -> Result<Vec<Converted>, Error> {
        let places: BTreeSet<_> = batch.iter().map(|one| one.span.of().clone()).collect();
        let named: Vec<_> =
            places.into_iter().map(|one| (one.topic.to_string(), one.partition)).collect();
        let stored = loop {
            match self.tables.tables.claim(&named).await {
                Ok(stored) => break stored,
                Err(error) if error.code().class() == Class::Transient => {
                    tracing::warn!(%error, "the database does not say how far it is");
                    self.clock.sleep(LONGEST).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut left = Vec::new();
        for one in batch {
            let of = one.span.of();
            let place = stored.iter().find(|known| {
                (known.topic.as_str(), known.partition) == (of.topic.as_ref(), of.partition)
            });
            match place.map(|known| known.next_offset) {
                Some(next) if next >= one.end => self.done(std::slice::from_ref(&one), 0),
                Some(next) => left.push(one.beyond(next)),
                None => left.push(one),
            }
        }
        Ok(left)
    }

    fn transaction(&self, batch: &[Converted]) -> Result<(Vec<TableRows>, Vec<Position>), Error> {
        let mut tables: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for one in batch {
            for (stream, rows) in &one.rows {
                let table = self.tables.name(stream)?;
                tables.entry(table).or_default().push(rows.clone());
            }
            ends.insert(one.span.of().clone(), one.end);
        }
        let rows = tables.into_iter().map(|(table, batches)| TableRows { table, batches });
        let positions = ends.into_iter().map(|(TopicPartition { topic, partition }, end)| {
            Position { topic: topic.to_string(), partition, next_offset: end }
        });
        Ok((rows.collect(), positions.collect()))
    }

    fn done(&self, batch: &[Converted], rows: u64) {
        self.metrics.persisted(rows);
        for one in batch {
            self.tracker.done(&one.span);
            for (stream, _) in &one.rows {
                if let Ok(stream) = self.streams.get(stream) {
                    stream.kept_elsewhere(one.span.of().partition, one.end);
                }
            }
        }
    }
}
