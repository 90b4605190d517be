//! Sends partitions to workers over gRPC and reads them.

mod lane;
mod read;
mod results;
mod send;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::Stream;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use sheaf_flight::{Channel, ChannelPool, Target};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_exchange_service_client::DataExchangeServiceClient;
use sheaf_retry::{RetryPolicy, SharedClock};
use tonic::{Request, Status};

pub use read::DataReader;

use super::codec::Compression;
use super::config::ShuffleSettings;
use crate::shuffle::{
    Calls, Error, ExchangeOptions, Governor, MAX_MESSAGE_BYTES, Manner, PartitionKey, READ_WINDOW,
    ReadOptions, Sender, SentPartition, ShufflePlan,
};
use crate::{PartitionerOptions, Partitioning};

/// How a [`DataExchangeClient`] sends and reads.
#[derive(Clone, Debug)]
pub struct DataExchangeOptions {
    /// Of what is sent, and what is asked for of what is read.
    pub compression: Compression,
    /// Retries of what fails for a while. A wrong checksum is tried once more.
    pub retry: RetryPolicy,
    /// Retries while a worker has no memory.
    pub room: RetryPolicy,
    /// Seed of the jitter of retries.
    pub seed: u64,
    /// How long a worker may take for one answer, besides the time that it was
    /// asked to wait.
    pub call_deadline: Duration,
    /// Bytes of payloads of one partition on their way, where the worker takes as much.
    pub window_bytes: u64,
    /// Partitions that are sent at one time.
    pub lanes: usize,
    /// Bytes after which a reader that consumes says that it has them.
    pub page_bytes: u64,
    /// How chunks are sealed.
    pub partitioner: PartitionerOptions,
}

impl Default for DataExchangeOptions {
    /// No compression, 8 MiB, 8 partitions; the rest as [`ExchangeOptions`] has it.
    fn default() -> Self {
        let ExchangeOptions { retry, room, seed, call_deadline, page_bytes, partitioner, .. } =
            ExchangeOptions::default();
        DataExchangeOptions {
            compression: Compression::None,
            retry,
            room,
            seed,
            call_deadline,
            window_bytes: 8 << 20,
            lanes: 8,
            page_bytes,
            partitioner,
        }
    }
}

/// Sends partitions to workers and reads them by `DataExchangeService`. Cheap to
/// clone; clones share channels and governor.
///
/// A worker is named by its URI as for Flight: it is the same port, TLS and tokens
/// are those of the pool. [`ExchangeClient`](crate::shuffle::ExchangeClient) does
/// the same over Flight, with fewer copies; this one is for workers that have
/// only this service, and for Snappy.
///
/// Every send may be repeated: what came through already is taken once. A call that
/// breaks is made again and goes on at the first chunk that was not taken, or not read.
#[derive(Clone)]
pub struct DataExchangeClient {
    shared: Arc<Shared>,
    calls: Calls,
}

struct Shared {
    pool: ChannelPool,
    /// Who reads has connections apart, as over Flight.
    reads: ChannelPool,
    governor: Governor,
    options: DataExchangeOptions,
}

impl DataExchangeClient {
    /// A client; all clients of a process should have the same `governor`.
    pub fn new(
        pool: ChannelPool,
        clock: SharedClock,
        governor: Governor,
        options: DataExchangeOptions,
    ) -> Self {
        let calls = Calls::new(manner(clock, &options));
        let reads = pool.apart(READ_WINDOW);
        let shared = Arc::new(Shared { pool, reads, governor, options });
        DataExchangeClient { shared, calls }
    }

    /// Adds the metrics `sheaf_exchange_grpc_client_*` of this client and its clones to
    /// a registry, as [`ExchangeClient::register_metrics`] does. None of its chunks is
    /// handed over within the process.
    ///
    /// [`ExchangeClient::register_metrics`]: crate::shuffle::ExchangeClient::register_metrics
    pub fn register_metrics(&self, registry: &mut Registry) {
        let prefix = "sheaf_exchange_grpc_client";
        self.calls.metrics.register(prefix, &self.shared.governor, registry);
    }

    /// Sends one partition over `StreamData` and commits it. Where `batches` yields an
    /// error, nothing is committed.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::Partition`] for batches of another schema;
    /// `limit_exceeded` for a row that fits no message; what `batches` yields.
    pub async fn stream_data(
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

    /// Sends one partition that is in memory over `SendResults`, in one call, and
    /// commits it.
    ///
    /// # Errors
    /// As [`DataExchangeClient::stream_data`].
    pub async fn send_results(
        &self,
        peer: &str,
        key: &PartitionKey,
        sender: Sender,
        schema: SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<SentPartition, Error> {
        results::send(self, peer, key, sender, schema, batches).await
    }

    /// Reads one partition of a worker, from a chunk on.
    ///
    /// Where `expected` is given, the schema has to fit it, as
    /// [`check_schema_compatibility`](super::check_schema_compatibility) has it; the
    /// worker looks at that before the first row.
    ///
    /// # Errors
    /// [`Error::Fetch`]. What is not there after [`ReadOptions::wait`], over all
    /// retries, is given up.
    pub async fn request_data(
        &self,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        options: ReadOptions,
    ) -> Result<DataReader, Error> {
        DataReader::open(self.clone(), peer, key, expected, options).await
    }

    /// What a worker has of a stage, with schemas where they are wanted.
    ///
    /// # Errors
    /// Those of the worker; `not_found` where it has nothing of it.
    pub async fn get_available_partitions(
        &self,
        peer: &str,
        query: &str,
        stage: u32,
        include_schemas: bool,
    ) -> Result<Vec<proto::PartitionInfo>, Error> {
        let query = query.to_owned();
        let message = proto::GetAvailablePartitionsRequest { query, stage, include_schemas };
        let call = || -> BoxFuture<'_, _> {
            let request = self.timed(message.clone());
            Box::pin(async move {
                let mut client = self.client(peer)?;
                let answer = self.within(client.get_available_partitions(request)).await?;
                Ok(answer.into_inner().partitions)
            })
        };
        self.calls.with_retries(peer, call).await
    }

    /// Spreads rows over partitions as `settings` say and sends each to its worker.
    ///
    /// Compression, size of chunks and retries are those of `settings`.
    ///
    /// # Errors
    /// [`Error::Argument`] where plan and settings have other numbers of partitions;
    /// as [`DataExchangeClient::stream_data`], and those of
    /// [`Partitioner::try_new`](crate::Partitioner::try_new).
    pub async fn perform_shuffle(
        &self,
        plan: &ShufflePlan,
        settings: &ShuffleSettings,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<Vec<SentPartition>, Error> {
        let targets = targets(plan, settings)?;
        let partitioning = settings.partitioning.clone();
        send::run(&self.with(settings), targets, plan.sender, partitioning, schema, batches).await
    }

    /// Has a worker drop all of a query and refuse its senders; how many partitions
    /// it had.
    ///
    /// # Errors
    /// Those of the worker.
    pub async fn cleanup_query_data(&self, peer: &str, query: &str) -> Result<u64, Error> {
        let message = proto::CleanupQueryDataRequest { query: query.to_owned() };
        let call = || -> BoxFuture<'_, _> {
            let request = self.timed(message.clone());
            Box::pin(async move {
                let mut client = self.client(peer)?;
                Ok(self.within(client.cleanup_query_data(request)).await?.into_inner().partitions)
            })
        };
        self.calls.with_retries(peer, call).await
    }

    /// The same with other settings.
    fn with(&self, settings: &ShuffleSettings) -> Self {
        let Shared { pool, reads, governor, options } = &*self.shared;
        let memory_bytes = options.partitioner.memory_bytes.max(settings.chunk_bytes);
        let partitioner = PartitionerOptions {
            chunk_bytes: settings.chunk_bytes,
            memory_bytes,
            ..options.partitioner
        };
        let options = DataExchangeOptions {
            compression: settings.compression,
            retry: settings.retry.clone(),
            partitioner,
            ..options.clone()
        };
        let calls = self.calls.with_manner(manner(self.calls.manner.clock.clone(), &options));
        let (pool, reads, governor) = (pool.clone(), reads.clone(), governor.clone());
        let shared = Arc::new(Shared { pool, reads, governor, options });
        DataExchangeClient { shared, calls }
    }

    fn client(&self, peer: &str) -> Result<DataExchangeServiceClient<Channel>, Error> {
        Self::client_of(&self.shared.pool, peer)
    }

    fn client_of(
        pool: &ChannelPool,
        peer: &str,
    ) -> Result<DataExchangeServiceClient<Channel>, Error> {
        let target: Target = peer.parse()?;
        let channel = pool.channel(&target)?;
        Ok(DataExchangeServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.shared.options.call_deadline);
        request
    }

    /// An answer, within its time.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, Error> {
        let answer = async { answer.await.map_err(failed) };
        self.calls.within(self.shared.options.call_deadline, answer).await
    }
}

/// What a status says.
fn failed(status: Status) -> Error {
    sheaf_flight::Error::from(status).into()
}

fn manner(clock: SharedClock, options: &DataExchangeOptions) -> Manner {
    let DataExchangeOptions { retry, room, seed, call_deadline, page_bytes, .. } = options.clone();
    Manner { clock, seed, retry, room, call_deadline, page_bytes }
}

impl fmt::Debug for DataExchangeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.shared.options;
        f.debug_struct("DataExchangeClient").field("options", options).finish_non_exhaustive()
    }
}

fn targets(
    plan: &ShufflePlan,
    settings: &ShuffleSettings,
) -> Result<Vec<(String, PartitionKey)>, Error> {
    let (planned, set) = (plan.partitions, settings.partitions);
    if planned != set {
        let text = format!("the plan has {planned} partitions, the settings have {set}");
        return Err(Error::Argument(text));
    }
    plan.targets()
}

/// The message with which a sender begins.
fn begin(
    key: &PartitionKey,
    sender: Sender,
    schema: proto::ArrowSchema,
) -> proto::DataTransferRequest {
    use proto::data_transfer_request::Message as Said;
    let begin = proto::TransferBegin {
        query: key.query().to_owned(),
        stage: key.stage(),
        partition: key.partition(),
        sender: sender.index,
        attempt: sender.attempt,
        senders: sender.senders,
        schema: Some(schema),
    };
    proto::DataTransferRequest { message: Some(Said::Begin(begin)) }
}
