//! Sends partitions to workers and reads them.

mod fetch;
mod metrics;
mod progress;
mod put;
mod retries;
mod send;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use futures::Stream;
use prometheus_client::registry::Registry;
use sheaf_flight::{CallOptions, ChannelPool};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock};

pub use fetch::PartitionReader;
pub use progress::{HowFar, PeerProgress, Progress};
pub(crate) use retries::with_retries;
pub use send::{SentPartition, ShufflePlan};

use super::engine::{Exchange, ReadOptions};
use super::error::{Error, FetchFailed, SendFailed};
use super::governor::{Governor, Lines};
use super::handler::{CLEAN_UP, CleanedUp, GET_AVAILABLE, QueryOf, StageOf};
use super::key::{PartitionKey, Sender};
use super::table::AvailablePartitions;
use super::wire::{json, parse};
use crate::{Column, PartitionerOptions, Partitioning};
use metrics::Metrics;

/// Bytes under way to each reader that it did not take yet: 64 readers of one worker
/// may stand still, and others go on.
const READ_WINDOW: u32 = 1 << 20;

/// How an [`ExchangeClient`] sends and reads.
#[derive(Clone, Debug)]
pub struct ExchangeOptions {
    /// Retries of what fails for a while: a worker that cannot be reached, a
    /// connection that breaks, a deadline. A wrong checksum is tried once more.
    pub retry: RetryPolicy,
    /// Retries while a worker has no memory: that ends when its readers go on.
    pub room: RetryPolicy,
    /// Seed of the jitter of retries.
    pub seed: u64,
    /// How long a worker may take to take one segment, or to begin an answer,
    /// besides the time that it was asked to wait.
    pub call_deadline: Duration,
    /// Puts to one worker at one time.
    pub calls_per_peer: usize,
    /// Conversations with one worker at one time, each for all partitions that one
    /// sender has for it. Who finds none free sends by puts, as everybody does
    /// where it is 0, or where the worker holds no conversations.
    pub conversations_per_peer: usize,
    /// Bytes of chunks that go in one call; one chunk may be larger.
    pub segment_bytes: usize,
    /// Bytes after which a reader that consumes says that it has them.
    pub page_bytes: u64,
    /// Bytes of sealed chunks of one shuffle above which no more rows are taken.
    pub pending_bytes: usize,
    /// How chunks are sealed.
    pub partitioner: PartitionerOptions,
}

impl Default for ExchangeOptions {
    /// [`RetryPolicy::TRANSFER`], ten minutes for memory, 60 s, 8 puts, 32
    /// conversations, 8 MiB, 16 MiB, 32 MiB: with 64 MiB of sealed chunks four workers
    /// took up to a tenth more CPU, and a fifth more memory.
    fn default() -> Self {
        let room = RetryPolicy {
            max_retries: 10_000,
            base_ms: 20,
            factor: 1.5,
            cap_ms: 1_000,
            deadline_ms: Some(600_000),
            ..RetryPolicy::TRANSFER
        };
        ExchangeOptions {
            retry: RetryPolicy::TRANSFER,
            room,
            seed: 0,
            call_deadline: Duration::from_secs(60),
            calls_per_peer: 8,
            conversations_per_peer: 32,
            segment_bytes: 8 << 20,
            page_bytes: 16 << 20,
            pending_bytes: 32 << 20,
            partitioner: PartitionerOptions::default(),
        }
    }
}

/// Sends partitions to workers, reads them from workers. Cheap to clone; clones
/// share channels, governor and calls per peer.
///
/// A worker is named by its Flight URI. The one that is this process, if it was
/// named with [`ExchangeClient::with_local`], is reached without the wire: its
/// partitions are references to the same memory.
///
/// Every send may be repeated: what came through already is taken once. So all
/// sends are retried; what cannot be sent after all is [`Error::Send`], what
/// cannot be read [`Error::Fetch`], each with peer, partition and cause.
///
/// Dropping a future or a reader ends its calls; what a worker took of an attempt
/// stays there until the sender begins another one or the query is cleaned up.
#[derive(Clone, Debug)]
pub struct ExchangeClient {
    shared: Arc<Shared>,
    progress: Progress,
}

#[derive(Clone, Debug)]
struct Local {
    uri: String,
    exchange: Exchange,
}

#[derive(Debug)]
struct Shared {
    pool: ChannelPool,
    /// Who reads has connections apart: a reader that stands still must not hold up
    /// the receipts of senders, which free the memory that it may wait for.
    reads: ChannelPool,
    clock: SharedClock,
    governor: Governor,
    /// For puts, and for conversations.
    lines: Lines,
    talks: Lines,
    options: ExchangeOptions,
    local: Option<Local>,
    metrics: Metrics,
}

impl ExchangeClient {
    /// A client; all clients of a process should have the same `governor`.
    pub fn new(
        pool: ChannelPool,
        clock: SharedClock,
        governor: Governor,
        options: ExchangeOptions,
    ) -> Self {
        let lines = Lines::new(options.calls_per_peer.max(1));
        let talks = Lines::new(options.conversations_per_peer);
        let (local, metrics, progress) = Default::default();
        let reads = pool.apart(READ_WINDOW);
        let shared = Shared { pool, reads, clock, governor, lines, talks, options, local, metrics };
        ExchangeClient { shared: Arc::new(shared), progress }
    }

    /// The same for a worker that is this process and has received this.
    #[must_use]
    pub fn with_local(self, uri: impl Into<String>, exchange: Exchange) -> Self {
        let Shared { pool, reads, clock, governor, options, metrics, .. } = &*self.shared;
        let (progress, metrics) = (self.progress.clone(), metrics.clone());
        let (pool, reads, clock) = (pool.clone(), reads.clone(), clock.clone());
        let (governor, options) = (governor.clone(), options.clone());
        let lines = Lines::new(options.calls_per_peer.max(1));
        let talks = Lines::new(options.conversations_per_peer);
        let local = Some(Local { uri: uri.into(), exchange });
        let shared = Shared { pool, reads, clock, governor, lines, talks, options, local, metrics };
        ExchangeClient { shared: Arc::new(shared), progress }
    }

    /// The same, whose sends and retries count in `progress`.
    #[must_use]
    pub fn with_progress(&self, progress: Progress) -> Self {
        ExchangeClient { shared: Arc::clone(&self.shared), progress }
    }

    /// Adds the metrics `sheaf_exchange_client_*` of this client and its clones to
    /// a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(&self.shared.governor, registry);
    }

    /// The governor of its sends.
    pub fn governor(&self) -> &Governor {
        &self.shared.governor
    }

    /// Sends one partition to a worker and commits it.
    ///
    /// Where `batches` yields an error, nothing is committed.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::Partition`] for batches of another schema;
    /// [`Error::TooLarge`] for a row that fits no message; what `batches` yields.
    pub async fn send_data_to_worker(
        &self,
        peer: &str,
        key: &PartitionKey,
        sender: Sender,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<SentPartition, Error> {
        let targets = vec![(peer.to_owned(), key.clone())];
        let sent = send::run(self, targets, sender, Partitioning::Single, schema, batches).await?;
        sent.into_iter().next().ok_or_else(|| Error::Protocol("nothing was sent".to_owned()))
    }

    /// Keeps one partition in this process, for whoever reads it.
    ///
    /// # Errors
    /// As [`ExchangeClient::send_data_to_worker`]; [`Error::Argument`] where no
    /// worker is this process.
    pub async fn store_intermediate_results(
        &self,
        key: &PartitionKey,
        sender: Sender,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<SentPartition, Error> {
        let local = self.shared.local.as_ref().ok_or_else(|| {
            let text = "no worker is this process: name it with ExchangeClient::with_local";
            Error::Argument(text.to_owned())
        })?;
        self.send_data_to_worker(&local.uri.clone(), key, sender, schema, batches).await
    }

    /// Reads one partition of a worker, from a chunk on.
    ///
    /// Where `expected` is given, the schema has to be that one, which is looked
    /// at before the first row.
    ///
    /// # Errors
    /// [`Error::Fetch`]; its cause is [`Error::Schema`] for another schema.
    pub async fn request_data_from_worker(
        &self,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        options: ReadOptions,
    ) -> Result<PartitionReader, Error> {
        PartitionReader::open(self.clone(), peer, key, expected, options).await
    }

    /// What a worker has of a stage.
    ///
    /// # Errors
    /// Those of the worker; `not_found` where it has nothing of it.
    pub async fn get_available_partitions(
        &self,
        peer: &str,
        query: &str,
        stage: u32,
    ) -> Result<AvailablePartitions, Error> {
        if let Some(local) = self.local(peer) {
            return local.get_available_partitions(query, stage);
        }
        let body = json(&StageOf { query: query.to_owned(), stage })?;
        let answer = self.action(peer, GET_AVAILABLE, body).await?;
        parse("available partitions", &answer)
    }

    /// Spreads rows over partitions by the hash of keys and sends each to its
    /// worker: equal keys go to the same partition, whoever sends them.
    ///
    /// # Errors
    /// As [`ExchangeClient::send_data_to_worker`], and those of
    /// [`Partitioner::try_new`](crate::Partitioner::try_new).
    pub async fn perform_hash_shuffle<C: Into<Column>>(
        &self,
        plan: &ShufflePlan,
        keys: impl IntoIterator<Item = C>,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<Vec<SentPartition>, Error> {
        let partitioning = Partitioning::hash(keys);
        self.perform_shuffle(plan, partitioning, schema, batches).await
    }

    /// The same with any partitioning.
    ///
    /// # Errors
    /// As [`ExchangeClient::perform_hash_shuffle`].
    pub async fn perform_shuffle(
        &self,
        plan: &ShufflePlan,
        partitioning: Partitioning,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<Vec<SentPartition>, Error> {
        let targets = plan.targets()?;
        send::run(self, targets, plan.sender, partitioning, schema, batches).await
    }

    /// Sends all rows to each worker of a plan: partition `n` is what worker `n`
    /// gets, whatever number of partitions the plan has.
    ///
    /// # Errors
    /// As [`ExchangeClient::perform_hash_shuffle`].
    pub async fn perform_broadcast(
        &self,
        plan: &ShufflePlan,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<Vec<SentPartition>, Error> {
        let partitions = u32::try_from(plan.workers.len()).unwrap_or(u32::MAX);
        let plan = ShufflePlan { partitions, ..plan.clone() };
        self.perform_shuffle(&plan, Partitioning::Broadcast, schema, batches).await
    }

    /// Has workers drop all of a query and refuse its senders; how many
    /// partitions they had. All are asked, whatever one of them answers.
    ///
    /// # Errors
    /// The first error of a worker.
    pub async fn cleanup_query_data(&self, peers: &[String], query: &str) -> Result<usize, Error> {
        super::key::check_query(query)?;
        let calls = peers.iter().map(|peer| self.clean_up_one(peer, query));
        let answers = futures::future::join_all(calls).await;
        let mut partitions = 0;
        for answer in answers {
            partitions += answer?;
        }
        Ok(partitions)
    }

    async fn clean_up_one(&self, peer: &str, query: &str) -> Result<usize, Error> {
        if let Some(local) = self.local(peer) {
            return local.cleanup_query_data(query);
        }
        let body = json(&QueryOf { query: query.to_owned() })?;
        let answer = self.action(peer, CLEAN_UP, body).await?;
        let CleanedUp { partitions, .. } = parse("the answer to a clean-up", &answer)?;
        Ok(partitions)
    }

    async fn action(&self, peer: &str, name: &str, body: Bytes) -> Result<Bytes, Error> {
        let Shared { pool, options, .. } = &*self.shared;
        let call = CallOptions::default()
            .deadline(options.call_deadline)
            .retry(options.retry.clone())
            .idempotent();
        let answer = pool.connection(peer)?.action(name, body, &call).await?;
        let nothing = || Error::Protocol(format!("{peer} answered nothing to {name}"));
        answer.into_iter().next().ok_or_else(nothing)
    }

    /// Chunks go out.
    fn sent(&self, peer: &str, chunks: usize, bytes: usize) {
        self.shared.metrics.sent(chunks, bytes);
        self.progress.sent(peer, bytes);
    }

    /// A call is made again.
    fn retried(&self, peer: &str) {
        self.shared.metrics.retries.inc();
        self.progress.retried(peer);
    }

    fn fetch_failed(&self, peer: &str, key: &PartitionKey, cause: Error) -> Error {
        self.shared.metrics.fetch_failed(&cause);
        let (peer, partition, cause) = (peer.to_owned(), key.clone(), Box::new(cause));
        Error::Fetch(Box::new(FetchFailed { peer, partition, cause }))
    }

    fn send_failed(&self, peer: &str, key: &PartitionKey, cause: Error) -> Error {
        self.shared.metrics.send_failed(&cause);
        let (peer, partition, cause) = (peer.to_owned(), key.clone(), Box::new(cause));
        Error::Send(Box::new(SendFailed { peer, partition, cause }))
    }

    /// What this process has received, if it is the worker that is meant.
    fn local(&self, peer: &str) -> Option<&Exchange> {
        self.shared.local.as_ref().filter(|local| local.uri == peer).map(|local| &local.exchange)
    }
}

/// Whether it is for want of memory, which ends when others go on.
fn wants_room(error: &Error) -> bool {
    error.code() == Code::MemoryFull
}
