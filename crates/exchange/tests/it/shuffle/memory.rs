//! Bounded memory, many senders, slow readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::try_join_all;
use sheaf_exchange::PartitionerOptions;
use sheaf_exchange::shuffle::{Error, ExchangeClient, ExchangeOptions, Governor, ReadOptions};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};

use super::world::{
    LONG, Worker, client, column, key, numbers, options, pool, read, rows, schema, sender, soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_sender_back_and_memory_stays_bounded() {
    const ROWS: i64 = 200_000;
    let worker = Worker::with_memory(512 << 10).await;
    let client = client(ExchangeOptions { page_bytes: 64 << 10, ..options() });
    let (uri, sending) = (worker.uri.clone(), client.clone());
    let send = tokio::spawn(async move {
        let rows = rows(0, ROWS, 4_000);
        sending.send_data_to_worker(&uri, &key(0), sender(0, 1, 1), schema(), rows).await
    });
    let options =
        ReadOptions { pipelined: true, consume: true, wait: LONG, ..ReadOptions::default() };
    let zero = key(0);
    let opened = client.request_data_from_worker(&worker.uri, &zero, None, options);
    let mut reader = soon("the first chunk", opened).await.unwrap();
    // It does not read before there is no more room.
    let full = || async { worker.budget.used() + (32 << 10) > worker.budget.limit() };
    sheaf_testkit::wait_until_async(LONG, "the memory to be full", full).await.unwrap();
    assert!(!send.is_finished());
    let mut got = Vec::new();
    while let Some(batch) = soon("a chunk", reader.next()).await.unwrap() {
        assert!(worker.budget.used() <= worker.budget.limit());
        got.extend(column(&batch, 1));
    }
    let sent = send.await.unwrap().unwrap();
    assert!(sent.bytes > 10 * worker.budget.limit(), "{} bytes", sent.bytes);
    assert_eq!(got, (0..ROWS).collect::<Vec<_>>());
    // All of it was consumed; what is left are a few numbers of each chunk.
    let left = worker.budget.used();
    assert!(
        left < (4 << 10) + 80 * sent.totals.chunks,
        "{left} bytes are left of {}",
        sent.totals.chunks
    );
    worker.exchange.cleanup_query_data("query:1").unwrap();
    assert_eq!(worker.budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_reader_a_full_worker_refuses_for_good_in_the_end() {
    let worker = Worker::with_memory(128 << 10).await;
    let room = RetryPolicy { max_retries: 2, base_ms: 1, cap_ms: 5, ..RetryPolicy::transfer() };
    let client = client(ExchangeOptions { room, ..options() });
    let zero = key(0);
    let send = client.send_data_to_worker(
        &worker.uri,
        &zero,
        sender(0, 1, 1),
        schema(),
        rows(0, 50_000, 1_000),
    );
    let error = soon("the send", send).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(matches!(error, Error::Send(_)));
    assert_eq!(client.governor().in_flight(), 0);
    client.cleanup_query_data(std::slice::from_ref(&worker.uri), "query:1").await.unwrap();
    assert_eq!(worker.budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_senders_to_one_receiver_do_not_stop_each_other() {
    const SENDERS: u32 = 256;
    const ROWS: i64 = 1_000;
    let worker = Worker::new().await;
    let governor = Governor::new(128 << 10);
    let client = ExchangeClient::new(pool(), SystemClock::shared(), governor.clone(), options());
    let (most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = tokio::spawn({
        let (governor, most, is_over) = (governor.clone(), most.clone(), is_over.clone());
        async move {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(governor.in_flight() as u64, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let sends = (0..SENDERS).map(|index| {
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move {
            let from = i64::from(index) * ROWS;
            let rows = rows(from, from + ROWS, 250);
            let sender = sender(index, 1, SENDERS);
            client.send_data_to_worker(&uri, &key(0), sender, schema(), rows).await
        }
    });
    // Somebody reads at the same time, over the same connection.
    let pipelined = ReadOptions { pipelined: true, wait: LONG, ..ReadOptions::default() };
    let reading = async {
        let reader = client.request_data_from_worker(&worker.uri, &key(0), None, pipelined).await?;
        super::world::read_all(reader).await
    };
    let both = futures::future::join(try_join_all(sends), reading);
    let (sent, got) = soon("the fan-in", both).await;
    is_over.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    assert_eq!(sent.unwrap().len() as u32, SENDERS);
    let all: Vec<i64> = (0..i64::from(SENDERS) * ROWS).collect();
    assert_eq!(numbers(&got.unwrap()), all);
    assert_eq!(numbers(&read(&client, &worker.uri, 0).await.unwrap()), all);
    let most = most.load(Ordering::Relaxed) as usize;
    assert!(most > 0 && most <= governor.limit(), "{most} bytes were in flight");
    assert_eq!(governor.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_counts_in_the_same_budget_a_chunk_counts_once() {
    let worker = Worker::with_shared_memory(64 << 20).await;
    // Bodies of 1 MiB: smaller ones are a part of larger pieces.
    let partitioner = PartitionerOptions { chunk_bytes: 1 << 20, ..PartitionerOptions::default() };
    let client = client(ExchangeOptions { partitioner, ..options() });
    // The windows of the connection are taken before.
    let send = |partition| {
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move {
            let (key, rows) = (key(partition), rows(0, 200_000, 20_000));
            client.send_data_to_worker(&uri, &key, sender(0, 1, 1), schema(), rows).await
        }
    };
    send(0).await.unwrap();
    let before = worker.budget.used();
    let sent = send(1).await.unwrap();
    let more = worker.budget.used() - before;
    assert!(sent.bytes > 4 << 20 && more >= sent.bytes, "{more} for {} bytes", sent.bytes);
    assert!(more < sent.bytes + sent.bytes / 4, "{more} for {} bytes", sent.bytes);
    worker.exchange.cleanup_query_data("query:1").unwrap();
    let is_free = || async { worker.budget.used() + 2 * sent.bytes <= before + more };
    sheaf_testkit::wait_until_async(LONG, "memory to be free", is_free).await.unwrap();
}
