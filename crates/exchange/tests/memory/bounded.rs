//! Memory does not depend on how much is received.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use futures::{TryStreamExt as _, stream};
use sheaf_exchange::shuffle::{
    Exchange, ExchangeClient, ExchangeOptions, Governor, PartitionKey, ReadOptions,
    ReceiverOptions, Sender, ShuffleHandler,
};
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_retry::SystemClock;

use super::{ONE_AT_A_TIME, resident};

const LIMIT: u64 = 32 << 20;
const BATCH_ROWS: i64 = 32_768;
const BATCHES: i64 = 330;
const SENDERS: u32 = 4;

fn batch(at: i64) -> RecordBatch {
    let from = at * BATCH_ROWS;
    let column = |factor: i64| {
        let values = (from..from + BATCH_ROWS).map(|n| n.wrapping_mul(factor));
        Arc::new(Int64Array::from_iter_values(values)) as ArrayRef
    };
    RecordBatch::try_from_iter([("number", column(1)), ("other", column(0x9E37_79B9))]).unwrap()
}

fn schema() -> SchemaRef {
    batch(0).schema()
}

async fn worker(directory: &std::path::Path) -> (Exchange, ServerHandle) {
    let options = ReceiverOptions::new(Budget::new(LIMIT), SystemClock::shared());
    let exchange = Exchange::open(options.with_spill(directory, 4 << 30)).await.unwrap();
    let router = FlightRouter::builder().memory(exchange.memory());
    let router = ShuffleHandler::new(exchange.clone()).serve(router).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    (exchange, Server::new(router).serve(listener).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_times_the_memory_goes_through_a_process_that_stays_small() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (exchange, handle) = worker(directory.path()).await;
    let clock = SystemClock::shared();
    let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
    let governor = Governor::new(8 << 20);
    let client = ExchangeClient::new(
        pool,
        clock,
        governor,
        ExchangeOptions { pending_bytes: 8 << 20, ..ExchangeOptions::default() },
    );
    let key = PartitionKey::try_new("query", 1, 0).unwrap();
    let (uri, mut bytes, mut most) = (handle.uri(), 0, 0);
    let before = resident();
    for index in 0..SENDERS {
        let its = (0..BATCHES).map(|at| Ok(batch(i64::from(index) * BATCHES + at)));
        let sender = Sender { index, attempt: 1, senders: SENDERS };
        let rows = stream::iter(its);
        let send = client.send_data_to_worker(&uri, &key, sender, schema(), rows);
        bytes += send.await.unwrap().bytes;
        most = most.max(resident());
    }
    assert!(bytes > 20 * LIMIT, "{bytes} bytes");
    assert!(exchange.budget().used() <= LIMIT);
    let options = ReadOptions { consume: true, ..ReadOptions::default() };
    // By the wire the client would keep pages of its own to use again, 144 MiB.
    let client = client.with_local(uri.clone(), exchange.clone());
    let reader = client.request_data_from_worker(&uri, &key, None, options).await;
    let mut batches = reader.unwrap().into_stream();
    let (mut rows, mut sum) = (0, 0i64);
    while let Some(batch) = batches.try_next().await.unwrap() {
        let numbers = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        rows += numbers.len() as i64;
        sum = numbers.values().iter().fold(sum, |sum, n| sum.wrapping_add(*n));
        most = most.max(resident());
    }
    let all = i64::from(SENDERS) * BATCHES * BATCH_ROWS;
    assert_eq!((rows, sum), (all, all * (all - 1) / 2));
    let grown = most.saturating_sub(before);
    println!("{} MiB sent, grown by {} MiB", bytes >> 20, grown >> 20);
    // The budget, pages that the server keeps to use again, and what the client
    // has in flight.
    assert!(grown < 4 * LIMIT, "{} MiB", grown >> 20);
    exchange.cleanup_query_data("query").unwrap();
    drop(batches);
    let _drained = handle.drain(std::time::Duration::from_secs(10)).await;
}
