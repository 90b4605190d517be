//! What a client tells of itself, and how it fails where nobody answers.

use std::time::Duration;

use futures::stream;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sheaf_exchange::shuffle::{
    Error, ExchangeClient, ExchangeOptions, HowFar, Progress, SentPartition, ShufflePlan,
};
use sheaf_retry::{Code, RetryPolicy, Retryable as _};

use super::world::{
    LONG, Worker, batch, client, key, numbers, options, read, rows, schema, sender, soon,
};

fn plan(workers: &[&Worker]) -> ShufflePlan {
    ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(0, 1, 1),
        workers: workers.iter().map(|worker| worker.uri.clone()).collect(),
        partitions: 5,
    }
}

/// The metrics of a client, one at each line.
fn metrics(client: &ExchangeClient) -> String {
    let mut registry = Registry::default();
    client.register_metrics(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

fn value(text: &str, name: &str) -> u64 {
    let line =
        text.lines().find_map(|line| line.strip_prefix(&format!("sheaf_exchange_client_{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_says_how_far_a_shuffle_is_and_where_it_went() {
    let (here, there) = (Worker::new().await, Worker::new().await);
    let (progress, client) = (Progress::default(), here.client());
    let (feed, fed) = tokio::sync::mpsc::channel(1);
    let fed = stream::unfold(fed, |mut fed| async move { Some((Ok(fed.recv().await?), fed)) });
    let sending = tokio::spawn({
        let (client, plan) = (client.with_progress(progress.clone()), plan(&[&here, &there]));
        async move { client.perform_hash_shuffle(&plan, ["key"], schema(), fed).await }
    });
    feed.send(batch(0, 9_000)).await.unwrap();
    let peers = || progress.look().peers;
    let some_taken = || async { peers().values().filter(|one| one.bytes_taken > 0).count() == 2 };
    sheaf_testkit::wait_until_async(LONG, "something taken by each", some_taken).await.unwrap();
    let HowFar { rows_in, rows_sealed, committed, partitions, .. } = progress.look();
    assert_eq!((rows_in, committed, partitions), (9_000, 0, 5));
    assert!(rows_sealed > 0 && rows_sealed < rows_in, "{rows_sealed}");

    feed.send(batch(9_000, 1_000)).await.unwrap();
    drop(feed);
    let sent: Vec<SentPartition> = soon("the shuffle", sending).await.unwrap().unwrap();
    let far = progress.look();
    assert_eq!((far.rows_in, far.rows_sealed, far.committed), (10_000, 10_000, 5));
    assert_eq!(far.bytes_taken, sent.iter().map(|one| one.bytes).sum::<u64>());
    for worker in [&here, &there] {
        let its: u64 = sent.iter().filter(|one| one.peer == worker.uri).map(|one| one.bytes).sum();
        assert_eq!(far.peers[&worker.uri].bytes_taken, its);
        // What stays here goes over no wire.
        let over_the_wire = if worker.uri == here.uri { 0 } else { its };
        assert_eq!(far.peers[&worker.uri].bytes_sent, over_the_wire);
    }

    let told = metrics(&client);
    let chunks = |uri: &str| {
        let its = sent.iter().filter(|one| one.peer == uri);
        its.map(|one| one.totals.chunks).sum::<u64>()
    };
    for (name, expected) in [
        ("sent_bytes_total", far.peers[&there.uri].bytes_sent),
        ("sent_chunks_total", chunks(&there.uri)),
        ("local_chunks_total", chunks(&here.uri)),
        ("committed_rows_total", 10_000),
        ("committed_partitions_total", 5),
        ("in_flight_bytes", 0),
        ("retries_total", 0),
        ("memory_refusals_total", 0),
    ] {
        assert_eq!(value(&told, name), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_is_given_up_after_its_retries_by_senders_and_readers() {
    let worker = Worker::new().await;
    let uri = worker.uri.clone();
    worker.handle.drain(Duration::ZERO).await;
    for conversations_per_peer in [1, 0] {
        let retry = RetryPolicy { max_retries: 6, ..options().retry };
        let client = client(ExchangeOptions { retry, conversations_per_peer, ..options() });
        let progress = Progress::default();
        let counted = client.with_progress(progress.clone());
        let key = key(2);
        let sent =
            counted.send_data_to_worker(&uri, &key, sender(0, 1, 1), schema(), rows(0, 900, 300));
        let error = soon("the send", sent).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(matches!(error, Error::Send(_)));
        assert_eq!(progress.look().peers[&uri].retries, 6);
        let error = soon("the read", read(&client, &uri, 2)).await.unwrap_err();
        assert!(matches!(error, Error::Fetch(_)), "{error:?}");
        let told = metrics(&client);
        assert_eq!(value(&told, "retries_total"), 12);
        assert_eq!(value(&told, "send_failures_total{code=\"unavailable\"}"), 1);
        assert_eq!(value(&told, "fetch_failures_total{code=\"unavailable\"}"), 1);
        let of_peer = |name: &str| value(&told, &format!("{name}{{peer=\"{uri}\"}}"));
        assert_eq!((of_peer("peer_retries_total"), of_peer("peer_failures_total")), (12, 2));
        assert_eq!(client.governor().in_flight(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_memory_is_counted() {
    let worker = Worker::with_memory(64 << 10).await;
    let room = RetryPolicy { max_retries: 1, base_ms: 1, cap_ms: 1, ..RetryPolicy::transfer() };
    for conversations_per_peer in [1, 0] {
        let client =
            client(ExchangeOptions { room: room.clone(), conversations_per_peer, ..options() });
        let plan = plan(&[&worker]);
        let sent = client.perform_hash_shuffle(&plan, ["key"], schema(), rows(0, 50_000, 1_000));
        let error = soon("the shuffle", sent).await.unwrap_err();
        assert_eq!(error.code(), Code::MemoryFull, "{error:?}");
        assert!(value(&metrics(&client), "memory_refusals_total") > 0);
        worker.exchange.cleanup_query_data("query:2").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_counted_by_worker_as_they_are_sent_and_read() {
    let (one, two) = (Worker::new().await, Worker::new().await);
    let client = client(options());
    let plan = plan(&[&one, &two]);
    let sent = client.perform_hash_shuffle(&plan, ["key"], schema(), rows(0, 10_000, 1_000));
    let sent = soon("the shuffle", sent).await.unwrap();
    for one in &sent {
        read(&client, &one.peer, one.key.partition()).await.unwrap();
    }
    let told = metrics(&client);
    for uri in [&one.uri, &two.uri] {
        let its: u64 = sent.iter().filter(|one| one.peer == *uri).map(|one| one.bytes).sum();
        for name in ["peer_sent_bytes_total", "peer_read_bytes_total"] {
            assert_eq!(value(&told, &format!("{name}{{peer=\"{uri}\"}}")), its, "{name}");
        }
    }
    let all: u64 = sent.iter().map(|one| one.bytes).sum();
    assert_eq!(value(&told, "read_bytes_total"), all);
    let chunks: u64 = sent.iter().map(|one| one.totals.chunks).sum();
    assert_eq!(value(&told, "read_chunks_total"), chunks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_by_another_name_goes_over_no_wire() {
    let worker = Worker::new().await;
    let port = worker.handle.local_addr().port();
    let advertised = format!("grpc://worker.example:{port}");
    let names = [worker.uri.clone(), advertised.clone()];
    let client = client(options()).with_local_names(names, worker.exchange.clone());
    let uris = [format!("grpc://localhost:{port}"), advertised, format!("127.0.0.1:{port}")];
    for (partition, uri) in (0..).zip(&uris) {
        let (key, rows) = (key(partition), rows(0, 900, 300));
        let sent = client.send_data_to_worker(uri, &key, sender(0, 1, 1), schema(), rows);
        assert_eq!(soon("the send", sent).await.unwrap().peer, *uri);
        let got = read(&client, uri, partition).await.unwrap();
        assert_eq!(numbers(&got), (0..900).collect::<Vec<_>>());
    }
    client
        .store_intermediate_results(&key(9), sender(0, 1, 1), schema(), rows(0, 9, 9))
        .await
        .unwrap();
    let told = metrics(&client);
    assert_eq!(value(&told, "sent_bytes_total"), 0);
    assert!(value(&told, "local_chunks_total") >= 4);
    // Another port of the same host is another worker.
    let other = Worker::new().await;
    let uri = format!("grpc://localhost:{}", other.handle.local_addr().port());
    client
        .send_data_to_worker(&uri, &key(0), sender(0, 1, 1), schema(), rows(0, 9, 9))
        .await
        .unwrap();
    assert!(value(&metrics(&client), "sent_bytes_total") > 0);
    assert_eq!(other.exchange.get_available_partitions("query:1", 3).unwrap().partitions.len(), 1);
}
