//! A worker with both faces of one exchange, clients, and rows to send.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::{TryStreamExt as _, stream};
use sheaf_exchange::PartitionerOptions;
use sheaf_exchange::service::{
    Compression, DataExchangeClient, DataExchangeOptions, DataExchangeService, DataReader,
};
use sheaf_exchange::shuffle::{Error, Exchange, Governor, ReadOptions, ShuffleHandler};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Security, Server,
    ServerHandle,
};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_exchange_service_client::DataExchangeServiceClient;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;
use sheaf_retry::{RetryPolicy, SystemClock};

use crate::sent::column;
pub(super) use crate::sent::{LONG, batch, key, rows, schema, sender, soon};

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

/// The numbers of rows, as they come.
pub(super) fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|one| column(one, 1)).collect()
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
