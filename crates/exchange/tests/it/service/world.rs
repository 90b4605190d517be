//! A worker with both faces of one exchange, clients, and rows to send.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use futures::{Stream, TryStreamExt as _, stream};
use sheaf_exchange::PartitionerOptions;
use sheaf_exchange::service::{
    Compression, DataExchangeClient, DataExchangeOptions, DataExchangeService, DataReader,
};
use sheaf_exchange::shuffle::{
    Error, Exchange, Governor, PartitionKey, ReadOptions, Sender, ShuffleHandler,
};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Security, Server,
    ServerHandle,
};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_exchange_service_client::DataExchangeServiceClient;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;
use sheaf_retry::{RetryPolicy, SystemClock};

/// How long a test waits for what must happen.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    pub(super) exchange: Exchange,
    pub(super) budget: Arc<Budget>,
    pub(super) handle: ServerHandle,
    pub(super) uri: String,
}

impl Worker {
    pub(super) async fn new() -> Self {
        Self::with(256 << 20, Security::none()).await
    }

    pub(super) async fn with(bytes: u64, security: Security) -> Self {
        Self::at("127.0.0.1:0", bytes, security).await
    }

    pub(super) async fn at(address: &str, bytes: u64, security: Security) -> Self {
        let budget = Budget::new(bytes);
        let exchange = Exchange::new(Arc::clone(&budget), SystemClock::shared());
        let handler = ShuffleHandler::new(exchange.clone());
        let router = handler.serve(FlightRouter::builder()).build().unwrap();
        let listener = Listener::bind(address, "--flight-addr", Exposure::Loopback).unwrap();
        let server = DataExchangeService::new(exchange.clone()).serve(Server::new(router));
        let handle = server.security(security).serve(listener).await.unwrap();
        let uri = handle.uri();
        Worker { exchange, budget, handle, uri }
    }

    /// The client that tonic generates.
    pub(super) async fn raw(&self) -> DataExchangeServiceClient<tonic::transport::Channel> {
        let uri = format!("http://{}", self.handle.local_addr());
        DataExchangeServiceClient::connect(uri)
            .await
            .unwrap()
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// What `StreamData` answers to all of these.
    pub(super) async fn say(
        &self,
        said: Vec<Said>,
    ) -> Result<Vec<proto::DataTransferResponse>, sheaf_flight::Error> {
        let answers = self.raw().await.stream_data(stream::iter(requests(said))).await;
        Ok(answers.map_err(sheaf_flight::Error::from)?.into_inner().try_collect().await?)
    }
}

pub(super) fn requests(said: Vec<Said>) -> Vec<proto::DataTransferRequest> {
    said.into_iter().map(|said| proto::DataTransferRequest { message: Some(said) }).collect()
}

pub(super) fn pool() -> ChannelPool {
    ChannelPool::new(ClientConfig::default(), SystemClock::shared())
}

/// Short waits, and chunks so small that there are many.
pub(super) fn options(compression: Compression) -> DataExchangeOptions {
    let retry = RetryPolicy { base_ms: 1, cap_ms: 20, ..RetryPolicy::transfer() };
    let partitioner = PartitionerOptions { chunk_bytes: 16 << 10, ..PartitionerOptions::default() };
    let window_bytes = 64 << 10;
    DataExchangeOptions {
        compression,
        retry,
        partitioner,
        window_bytes,
        ..DataExchangeOptions::default()
    }
}

pub(super) fn client(options: DataExchangeOptions) -> DataExchangeClient {
    DataExchangeClient::new(pool(), SystemClock::shared(), Governor::new(4 << 20), options)
}

pub(super) fn plain() -> DataExchangeClient {
    client(options(Compression::None))
}

pub(super) fn key(partition: u32) -> PartitionKey {
    PartitionKey::try_new("query:1", 3, partition).unwrap()
}

pub(super) fn sender(index: u32, attempt: u64, senders: u32) -> Sender {
    Sender { index, attempt, senders }
}

/// Rows `from..from + rows`: a key of few values, the row's own number, and text.
pub(super) fn batch(from: i64, rows: usize) -> RecordBatch {
    let numbers: Vec<i64> = (from..).take(rows).collect();
    let keys = numbers.iter().map(|n| n.wrapping_mul(0x9E37_79B9) % 1_009).collect::<Vec<_>>();
    let text = numbers.iter().map(|n| (n % 7 != 0).then(|| format!("row {n} of some length")));
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from(keys))),
        ("number", Arc::new(Int64Array::from(numbers.clone()))),
        ("text", Arc::new(text.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, one)| (name, one, true))).unwrap()
}

pub(super) fn schema() -> SchemaRef {
    batch(0, 0).schema()
}

/// Batches of rows `from..to`.
pub(super) fn rows(
    from: i64,
    to: i64,
    step: usize,
) -> impl Stream<Item = Result<RecordBatch, Error>> {
    let starts = (from..to).step_by(step);
    stream::iter(starts.map(move |at| Ok(batch(at, step.min((to - at) as usize)))))
}

/// The numbers of rows, as they come.
pub(super) fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |one: &RecordBatch| one.column(1).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

pub(super) async fn read_all(reader: DataReader) -> Result<Vec<i64>, Error> {
    Ok(numbers(&reader.into_stream().try_collect::<Vec<_>>().await?))
}

pub(super) async fn read(
    client: &DataExchangeClient,
    peer: &str,
    partition: u32,
) -> Result<Vec<i64>, Error> {
    let options = ReadOptions::default();
    read_all(client.request_data(peer, &key(partition), None, options).await?).await
}

/// Ends a test that would hang.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(LONG, future).await;
    ended.unwrap_or_else(|_| panic!("{what} does not end"))
}
