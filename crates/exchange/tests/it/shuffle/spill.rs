//! More than memory holds: chunks move to disk, and come back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures::future::try_join_all;
use sheaf_exchange::shuffle::{
    Exchange, FetchFailed, ReadOptions, ReceiverMetrics, ReceiverOptions, ShuffleHandler,
};
use sheaf_flight::{Budget, Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_retry::{Code, Retryable as _, SystemClock};

use super::world::{
    LONG, client, column, key, numbers, options, read, read_all, rows, schema, sender, soon,
};

const LIMIT: u64 = 1 << 20;
const SENDERS: u32 = 4;
const PARTITIONS: u32 = 3;
const ROWS: i64 = 48_000;

/// A worker that spills.
struct Spilling {
    exchange: Exchange,
    handle: ServerHandle,
    directory: tempfile::TempDir,
    registry: prometheus_client::registry::Registry,
}

impl Spilling {
    async fn new(shares_memory: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let metrics = ReceiverMetrics::default();
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        let memory = if shares_memory { 32 * LIMIT } else { LIMIT };
        let options = ReceiverOptions::new(Budget::new(memory), SystemClock::shared());
        let options = options.with_spill(directory.path(), 1 << 30).with_metrics(metrics);
        let exchange = Exchange::open(options).await.unwrap();
        let mut router = FlightRouter::builder();
        if shares_memory {
            router = router.memory(exchange.memory());
        }
        let router = ShuffleHandler::new(exchange.clone()).serve(router).build().unwrap();
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
        let handle = Server::new(router).serve(listener).await.unwrap();
        Spilling { exchange, handle, directory, registry }
    }

    /// All senders send all rows of theirs to all partitions; how many bytes.
    async fn send(&self) -> u64 {
        let client = client(options());
        let sends = (0..SENDERS * PARTITIONS).map(|one| {
            let (client, uri) = (client.clone(), self.handle.uri());
            let (index, partition) = (one % SENDERS, one / SENDERS);
            async move {
                let from = i64::from(index) * ROWS;
                let (key, rows) = (key(partition), rows(from, from + ROWS, 1_000));
                let sender = sender(index, 1, SENDERS);
                client.send_data_to_worker(&uri, &key, sender, schema(), rows).await
            }
        });
        let sent = soon("the sends", try_join_all(sends)).await.unwrap();
        sent.iter().map(|one| one.bytes).sum()
    }

    async fn clean_up(&self) {
        self.exchange.cleanup_query_data("query:1").unwrap();
        let directory = self.directory.path();
        let is_empty =
            || async { spill_files(directory).is_empty() && self.exchange.spilled_bytes() == 0 };
        sheaf_testkit::wait_until_async(LONG, "the files to go", is_empty).await.unwrap();
    }

    fn counter(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(its, _)| *its == format!("sheaf_exchange_{name}"));
        found.unwrap_or_else(|| panic!("no {name} in {text}")).1.parse().unwrap()
    }
}

pub(super) fn spill_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|one| one.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|its| its == "spill")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_times_the_memory_is_received_without_a_reader_and_read_back() {
    let worker = Spilling::new(false).await;
    let bytes = worker.send().await;
    assert!(bytes > 20 * LIMIT, "{bytes} bytes");
    assert!(worker.exchange.budget().used() <= LIMIT);
    assert!(worker.exchange.spilled_bytes() > bytes - LIMIT);
    let (client, uri) = (client(options()), worker.handle.uri());
    let all: Vec<i64> = (0..i64::from(SENDERS) * ROWS).collect();
    // By several readers at once, and then by one that consumes.
    let reads = (0..PARTITIONS).chain([0, 0]).map(|partition| read(&client, &uri, partition));
    for got in soon("the reads", try_join_all(reads)).await.unwrap() {
        assert_eq!(numbers(&got), all);
    }
    let consume = ReadOptions { consume: true, ..ReadOptions::default() };
    for partition in 0..PARTITIONS {
        let key = key(partition);
        let reader = client.request_data_from_worker(&uri, &key, None, consume);
        let got = soon("the reader", async { read_all(reader.await.unwrap()).await }).await;
        assert_eq!(numbers(&got.unwrap()), all);
    }
    // Each sender's rows are in one piece of disk or another: all was consumed.
    let stats = worker.exchange.stats(None);
    let stage = &stats.queries[0].stages[0];
    assert_eq!((stage.spilled_bytes, stage.memory_bytes), (0, 0), "{stats:?}");
    assert!(worker.counter("spilled_bytes_total") > bytes - LIMIT);
    assert!(worker.counter("spill_read_bytes_total") > worker.counter("spilled_bytes_total"));
    assert_eq!(worker.counter("received_bytes_total"), bytes);
    worker.clean_up().await;
    assert_eq!(worker.exchange.budget().used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_counts_in_the_same_budget_its_calls_wait_for_room() {
    let worker = Spilling::new(true).await;
    let partitioner = sheaf_exchange::PartitionerOptions {
        chunk_bytes: 2 << 20,
        ..sheaf_exchange::PartitionerOptions::default()
    };
    let segment_bytes = 4 << 20;
    let client = client(sheaf_exchange::shuffle::ExchangeOptions {
        partitioner,
        segment_bytes,
        ..options()
    });
    let (uri, mut bytes, mut most) = (worker.handle.uri(), 0, 0);
    for partition in 0..8 {
        let (key, rows) = (key(partition), rows(0, 400_000, 20_000));
        let send = client.send_data_to_worker(&uri, &key, sender(0, 1, 1), schema(), rows);
        bytes += soon("the send", send).await.unwrap().bytes;
        most = most.max(worker.exchange.budget().used());
    }
    assert!(bytes > 3 * 32 * LIMIT && most <= 32 * LIMIT, "{most} for {bytes} bytes");
    for partition in 0..8 {
        let got = soon("the read", read(&client, &uri, partition)).await.unwrap();
        assert_eq!(numbers(&got), (0..400_000).collect::<Vec<_>>());
    }
    worker.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_disk_has_damaged_fails_its_fetch_and_says_where() {
    let worker = Spilling::new(false).await;
    worker.send().await;
    let files = spill_files(worker.directory.path());
    for path in &files {
        let mut bytes = fs::read(path).unwrap();
        for at in (64..bytes.len()).step_by(512) {
            bytes[at] ^= 0x10;
        }
        fs::write(path, bytes).unwrap();
    }
    let client = client(options());
    let error = soon("the read", read(&client, &worker.handle.uri(), 0)).await.unwrap_err();
    let failed = FetchFailed::of(&error).expect("a failed fetch");
    assert_eq!(failed.partition, key(0));
    assert_eq!(failed.cause.code(), Code::Corrupt, "{}", failed.cause);
    let text = failed.cause.to_string();
    assert!(files.iter().any(|path| text.contains(path.to_str().unwrap())), "{text}");
    assert!(text.contains("compute the partition again"), "{text}");
    assert!(worker.counter("spill_corrupt_total") > 0);
    worker.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_consumes_while_others_send_gets_every_row_once() {
    let worker = Spilling::new(false).await;
    let (client, uri) = (client(options()), worker.handle.uri());
    let wait = LONG;
    let pipelined = ReadOptions { pipelined: true, consume: true, wait, ..ReadOptions::default() };
    let reading = async {
        let zero = key(0);
        let mut reader = client.request_data_from_worker(&uri, &zero, None, pipelined).await?;
        // It begins to read once much of what comes is on disk.
        let is_spilled = || async { worker.exchange.spilled_bytes() > 4 * LIMIT };
        sheaf_testkit::wait_until_async(LONG, "chunks on disk", is_spilled).await.unwrap();
        let mut got = Vec::new();
        while let Some(batch) = reader.next().await? {
            got.extend(column(&batch, 1));
        }
        got.sort_unstable();
        Ok::<_, sheaf_exchange::shuffle::Error>(got)
    };
    let (_, got) = futures::join!(worker.send(), soon("the reader", reading));
    assert_eq!(got.unwrap(), (0..i64::from(SENDERS) * ROWS).collect::<Vec<_>>());
    worker.clean_up().await;
    assert_eq!(worker.exchange.budget().used(), 0);
}

#[tokio::test]
async fn a_second_exchange_in_the_same_directory_is_refused() {
    let worker = Spilling::new(false).await;
    let options = ReceiverOptions::new(Budget::new(LIMIT), SystemClock::shared())
        .with_spill(worker.directory.path(), 1 << 30);
    let error = Exchange::open(options.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::DirectoryLocked, "{error}");
    let Spilling { exchange, handle, directory, .. } = worker;
    drop(handle.drain(LONG).await);
    drop(exchange);
    let (opened, _directory) = (Arc::new(options), directory);
    let opens = || async { Exchange::open((*opened).clone()).await.is_ok() };
    sheaf_testkit::wait_until_async(LONG, "the directory to be free", opens).await.unwrap();
}
