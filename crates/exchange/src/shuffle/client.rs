//! Sends partitions to workers and reads them.

mod calls;
mod fetch;
mod fits;
mod local;
mod metrics;
mod parked;
mod progress;
mod put;
mod reading;
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

pub(crate) use calls::{Calls, Manner};
pub use fetch::PartitionReader;
pub use fits::check_schema_compatibility;
pub(crate) use parked::READ_WINDOW;
pub use progress::{HowFar, PeerProgress, Progress};
pub(crate) use reading::{Got, Opened, Reading, Source, broken_off};
pub use send::{SentPartition, ShufflePlan};

use super::engine::{Exchange, ReadOptions};
use super::error::Error;
use super::governor::{Governor, Lines};
use super::handler::{CLEAN_UP, CleanedUp, GET_AVAILABLE, LOAD, QueryOf, StageOf};
use super::key::{PartitionKey, Sender};
use super::placement::{Placement, WorkerLoad};
use super::table::AvailablePartitions;
use super::wire::{json, parse};
use crate::{Column, PartitionerOptions, Partitioning};
use local::Local;

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
    /// How long a worker may take to take one segment, to begin an answer, or to give
    /// one chunk of it, besides the time that it was asked to wait.
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
    calls: Calls,
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
        let reads = pool.apart(READ_WINDOW);
        let ExchangeOptions { retry, room, seed, call_deadline, page_bytes, .. } = options.clone();
        let clock_of = clock.clone();
        let manner = Manner { clock: clock_of, seed, retry, room, call_deadline, page_bytes };
        let (local, calls) = (None, Calls::new(manner));
        let shared = Shared { pool, reads, clock, governor, lines, talks, options, local };
        ExchangeClient { shared: Arc::new(shared), calls }
    }

    /// The same for a worker that is this process and has received this.
    ///
    /// It is known by whatever way its address is written: with any scheme, and by
    /// `localhost` where it is the address of that.
    #[must_use]
    pub fn with_local(self, uri: impl Into<String>, exchange: Exchange) -> Self {
        self.with_local_names([uri], exchange)
    }

    /// The same for one that others call by several URIs, such as where it listens and
    /// what it advertises. The first is what it calls itself.
    #[must_use]
    pub fn with_local_names<N: Into<String>>(
        self,
        uris: impl IntoIterator<Item = N>,
        exchange: Exchange,
    ) -> Self {
        let Shared { pool, reads, clock, governor, options, .. } = &*self.shared;
        let (pool, reads, clock) = (pool.clone(), reads.clone(), clock.clone());
        let (governor, options) = (governor.clone(), options.clone());
        let lines = Lines::new(options.calls_per_peer.max(1));
        let talks = Lines::new(options.conversations_per_peer);
        let local = Local::try_new(uris.into_iter().map(Into::into).collect(), exchange);
        let shared = Shared { pool, reads, clock, governor, lines, talks, options, local };
        ExchangeClient { shared: Arc::new(shared), calls: self.calls }
    }

    /// The same, whose sends and retries count in `progress`.
    #[must_use]
    pub fn with_progress(&self, progress: Progress) -> Self {
        let calls = Calls { progress, ..self.calls.clone() };
        ExchangeClient { shared: Arc::clone(&self.shared), calls }
    }

    /// Adds the metrics `sheaf_exchange_client_*` of this client and its clones to
    /// a registry: what was sent and read, retries and failures, in all and for each
    /// of the first 256 workers (`peer`); those beyond count as `other`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let prefix = "sheaf_exchange_client";
        self.calls.metrics.register(prefix, &self.shared.governor, registry);
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
        let sent =
            send::run(self, targets, None, sender, Partitioning::Single, schema, batches).await?;
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
        self.send_data_to_worker(local.name(), key, sender, schema, batches).await
    }

    /// Reads one partition of a worker, from a chunk on.
    ///
    /// Where `expected` is given, the schema has to fit it, as
    /// [`check_schema_compatibility`] has it, which is looked at before the first row.
    ///
    /// # Errors
    /// [`Error::Fetch`]; its cause is `failed_precondition` for a schema that does not
    /// fit. What is not there after [`ReadOptions::wait`], over all retries, is given
    /// up.
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
        send::run(self, targets, None, plan.sender, partitioning, schema, batches).await
    }

    /// The same, but of all partitions only these are sent and committed: what a
    /// worker that is gone had, to others.
    ///
    /// # Errors
    /// As [`ExchangeClient::perform_hash_shuffle`]; [`Error::Argument`] for a
    /// partition that the plan does not have.
    pub async fn perform_shuffle_of(
        &self,
        plan: &ShufflePlan,
        only: &[u32],
        partitioning: Partitioning,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<Vec<SentPartition>, Error> {
        if let Some(other) = only.iter().find(|one| **one >= plan.partitions) {
            let text = format!("partition {other} is none of the {} of the plan", plan.partitions);
            return Err(Error::Argument(text));
        }
        let targets = plan.targets()?;
        send::run(self, targets, Some(only), plan.sender, partitioning, schema, batches).await
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

    /// How busy a worker is.
    ///
    /// # Errors
    /// Those of the worker.
    pub async fn get_worker_load(&self, peer: &str) -> Result<WorkerLoad, Error> {
        if let Some(local) = self.local(peer) {
            return Ok(local.load());
        }
        let answer = self.action(peer, LOAD, Bytes::from_static(b"{}")).await?;
        parse("the load of a worker", &answer)
    }

    /// Chooses a worker for each partition, by what they say of their load: see
    /// [`Placement::choose`]. All are asked at once; who does not answer is left out.
    ///
    /// # Errors
    /// [`Error::Argument`] where none is left.
    pub async fn choose_receivers(
        &self,
        workers: &[String],
        partitions: u32,
    ) -> Result<Placement, Error> {
        Placement::choose(&self.loads(workers).await, partitions)
    }

    /// Chooses other workers for the partitions of those that are gone; all others
    /// stay where they are. `workers` may name new ones.
    ///
    /// # Errors
    /// [`Error::Argument`] where none is left.
    pub async fn replace_receivers(
        &self,
        placement: &Placement,
        gone: &[String],
        workers: &[String],
    ) -> Result<Placement, Error> {
        let left: Vec<String> =
            workers.iter().filter(|worker| !gone.contains(worker)).cloned().collect();
        placement.without(gone, &self.loads(&left).await)
    }

    async fn loads(&self, workers: &[String]) -> Vec<(String, Result<WorkerLoad, Error>)> {
        let calls = workers.iter().map(async |worker| {
            let load = self.get_worker_load(worker).await;
            (worker.clone(), load)
        });
        futures::future::join_all(calls).await
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

    /// What this process has received, if it is the worker that is meant.
    fn local(&self, peer: &str) -> Option<&Exchange> {
        self.shared.local.as_ref().filter(|local| local.is(peer)).map(|local| &local.exchange)
    }
}

/// Whether it is for want of memory, which ends when others go on.
fn wants_room(error: &Error) -> bool {
    error.code() == Code::MemoryFull
}
