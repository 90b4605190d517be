//! Readers over gRPC: as many as over Flight, and counted as there.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sheaf_exchange::service::{Compression, DataExchangeClient, DataExchangeOptions};
use sheaf_exchange::shuffle::{ExchangeClient, ExchangeOptions, Governor, ReadOptions};
use sheaf_flight::Security;
use sheaf_retry::{RetryPolicy, SystemClock};

use super::world::{
    Worker, client, key, numbers, options, plain, pool, read, read_all, rows, schema, sender, soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_readers_of_one_worker_do_not_hold_each_other_up() {
    const READERS: u32 = 100;
    let worker = Worker::with(512 << 20, Security::none()).await;
    let partitioner = options(Compression::None).partitioner;
    let set = ExchangeOptions { partitioner, ..ExchangeOptions::default() };
    let local = ExchangeClient::new(pool(), SystemClock::shared(), Governor::new(4 << 20), set);
    let local = local.with_local(worker.uri.clone(), worker.exchange.clone());
    for partition in 0..READERS {
        let (key, rows) = (key(partition), rows(0, 40_000, 8_000));
        let stored = local.store_intermediate_results(&key, sender(0, 1, 1), schema(), rows);
        assert!(stored.await.unwrap().bytes > 5 << 18);
    }
    let client = plain();
    let mut readers = Vec::new();
    for partition in 0..READERS {
        let opened =
            client.request_data(&worker.uri, &key(partition), None, ReadOptions::default()).await;
        readers.push(opened.unwrap());
    }
    for reader in readers {
        let read = soon("a reader", read_all(reader)).await.unwrap();
        assert_eq!(read, (0..40_000).collect::<Vec<_>>());
    }
}

/// The value of a metric of the client.
fn value(client: &DataExchangeClient, name: &str) -> u64 {
    let mut registry = Registry::default();
    client.register_metrics(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let prefix = format!("sheaf_exchange_grpc_client_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_reads_and_failures_are_counted_by_worker() {
    let worker = Worker::new().await;
    let client = plain();
    let by_stream = client
        .stream_data(&worker.uri, &key(0), sender(0, 1, 1), schema(), rows(0, 2_000, 500))
        .await
        .unwrap();
    let batches: Vec<_> = futures::TryStreamExt::try_collect(rows(0, 500, 500)).await.unwrap();
    let by_results = client
        .send_results(&worker.uri, &key(1), sender(0, 1, 1), schema(), &batches)
        .await
        .unwrap();
    let read = read(&client, &worker.uri, 0).await.unwrap();
    assert_eq!(read.len(), 2_000);
    assert_eq!(numbers(&batches).len(), 500);
    let chunks = by_stream.totals.chunks + by_results.totals.chunks;
    assert_eq!(value(&client, "sent_chunks_total"), chunks);
    assert_eq!(value(&client, "committed_rows_total"), 2_500);
    assert_eq!(value(&client, "committed_partitions_total"), 2);
    assert_eq!(value(&client, "read_bytes_total"), by_stream.bytes);
    let of_peer = |name: &str| value(&client, &format!("{name}{{peer=\"{}\"}}", worker.uri));
    assert_eq!(of_peer("peer_read_bytes_total"), by_stream.bytes);
    assert_eq!(of_peer("peer_sent_bytes_total"), value(&client, "sent_bytes_total"));
    assert_eq!(of_peer("peer_failures_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_counted_where_nobody_answers() {
    let worker = Worker::new().await;
    let uri = worker.uri.clone();
    worker.handle.drain(std::time::Duration::ZERO).await;
    let retry = RetryPolicy { max_retries: 4, ..options(Compression::None).retry };
    let client = client(DataExchangeOptions { retry, ..options(Compression::None) });
    soon("the read", read(&client, &uri, 0)).await.unwrap_err();
    assert_eq!(value(&client, "retries_total"), 4);
    assert_eq!(value(&client, "fetch_failures_total{code=\"unavailable\"}"), 1);
    assert_eq!(value(&client, &format!("peer_failures_total{{peer=\"{uri}\"}}")), 1);
}
