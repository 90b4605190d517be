//! Workers with servers, and rows to send.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::{Stream, TryStreamExt as _, stream};
use sheaf_exchange::PartitionerOptions;
use sheaf_exchange::shuffle::{
    Error, Exchange, ExchangeClient, ExchangeOptions, Governor, PartitionReader, ReadOptions,
    ShuffleHandler,
};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Handler, Listener, Server,
    ServerHandle,
};
use sheaf_retry::{RetryPolicy, SharedClock, SystemClock};

pub(super) use crate::sent::{LONG, batch, column, key, rows, schema, sender, soon};

/// One worker.
pub(super) struct Worker {
    pub(super) exchange: Exchange,
    pub(super) budget: Arc<Budget>,
    pub(super) handle: ServerHandle,
    pub(super) uri: String,
}

impl Worker {
    pub(super) async fn new() -> Self {
        Self::with_memory(256 << 20).await
    }

    pub(super) async fn with_memory(bytes: u64) -> Self {
        Self::at("127.0.0.1:0", bytes).await
    }

    pub(super) async fn at(address: &str, bytes: u64) -> Self {
        Self::by(SystemClock::shared(), address, bytes).await
    }

    /// One whose exchange has this clock.
    pub(super) async fn by(clock: SharedClock, address: &str, bytes: u64) -> Self {
        let budget = Budget::new(bytes);
        let exchange = Exchange::new(Arc::clone(&budget), clock);
        let handler = ShuffleHandler::new(exchange.clone());
        let router = handler.serve(FlightRouter::builder()).build().unwrap();
        let handle = serve(router, address).await;
        let uri = handle.uri();
        Worker { exchange, budget, handle, uri }
    }

    /// One whose server counts in the same budget.
    pub(super) async fn with_shared_memory(bytes: u64) -> Self {
        let budget = Budget::new(bytes);
        let exchange = Exchange::new(Arc::clone(&budget), SystemClock::shared());
        let router = FlightRouter::builder().memory(budget.clone());
        let router = ShuffleHandler::new(exchange.clone()).serve(router).build().unwrap();
        let handle = serve(router, "127.0.0.1:0").await;
        let uri = handle.uri();
        Worker { exchange, budget, handle, uri }
    }

    /// One whose namespace is served by something else, over the same exchange.
    pub(super) async fn behind<H: Handler>(wrap: impl FnOnce(ShuffleHandler) -> Arc<H>) -> Self {
        let budget = Budget::new(256 << 20);
        let exchange = Exchange::new(Arc::clone(&budget), SystemClock::shared());
        let handler = wrap(ShuffleHandler::new(exchange.clone()));
        let router = FlightRouter::builder().handler("shuffle", handler).build().unwrap();
        let handle = serve(router, "127.0.0.1:0").await;
        let uri = handle.uri();
        Worker { exchange, budget, handle, uri }
    }

    /// The client of this worker: what is its own it does not send.
    pub(super) fn client(&self) -> ExchangeClient {
        client(options()).with_local(self.uri.clone(), self.exchange.clone())
    }
}

async fn serve(router: FlightRouter, address: &str) -> ServerHandle {
    let listener = Listener::bind(address, "--flight-addr", Exposure::Loopback).unwrap();
    Server::new(router).serve(listener).await.unwrap()
}

/// Short waits, and chunks so small that there are many.
pub(super) fn options() -> ExchangeOptions {
    let retry = RetryPolicy { base_ms: 1, cap_ms: 20, ..RetryPolicy::transfer() };
    let partitioner = PartitionerOptions { chunk_bytes: 16 << 10, ..PartitionerOptions::default() };
    ExchangeOptions { retry, partitioner, segment_bytes: 48 << 10, ..ExchangeOptions::default() }
}

pub(super) fn pool() -> ChannelPool {
    ChannelPool::new(ClientConfig::default(), SystemClock::shared())
}

/// A client without a worker of its own.
pub(super) fn client(options: ExchangeOptions) -> ExchangeClient {
    ExchangeClient::new(pool(), SystemClock::shared(), Governor::new(4 << 20), options)
}

pub(super) fn batches(of: Vec<RecordBatch>) -> impl Stream<Item = Result<RecordBatch, Error>> {
    stream::iter(of.into_iter().map(Ok))
}

/// Keys and numbers of all rows that are left.
pub(super) async fn read_all(reader: PartitionReader) -> Result<Vec<(i64, i64)>, Error> {
    let batches: Vec<RecordBatch> = reader.into_stream().try_collect().await?;
    let pairs = batches.iter().flat_map(|one| column(one, 0).into_iter().zip(column(one, 1)));
    Ok(pairs.collect())
}

pub(super) async fn read(
    client: &ExchangeClient,
    peer: &str,
    partition: u32,
) -> Result<Vec<(i64, i64)>, Error> {
    let options = ReadOptions::default();
    let key = key(partition);
    read_all(client.request_data_from_worker(peer, &key, None, options).await?).await
}

/// The numbers of rows, sorted.
pub(super) fn numbers(rows: &[(i64, i64)]) -> Vec<i64> {
    let mut numbers: Vec<i64> = rows.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers
}
