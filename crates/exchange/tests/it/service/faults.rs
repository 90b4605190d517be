//! Connections that break, memory that is used up, readers that do not read.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use sheaf_exchange::service::{
    ChunkOptions, Compression, DataExchangeClient, DataExchangeService, serialize_to_chunks,
};
use sheaf_exchange::shuffle::{Error, Exchange, Governor, ReadOptions};
use sheaf_flight::{Budget, Security};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_exchange_service_server::DataExchangeService as _;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;
use sheaf_proto::exchange::v1::request_data_response::Message as Given;
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};

use super::refusals::begin;
use super::world::{
    LONG, Worker, batch, client, key, numbers, options, plain, pool, read, read_all, requests,
    rows, schema, sender, soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_goes_on_when_its_connection_breaks() {
    let worker = Worker::new().await;
    let proxy = sheaf_testkit::FaultProxy::start(worker.handle.local_addr()).unwrap();
    let (client, uri) = (client(options(Compression::Lz4)), proxy.uri());
    let (feed, fed) = tokio::sync::mpsc::channel(1);
    let fed = stream::unfold(fed, |mut fed| async move { Some((fed.recv().await?, fed)) });
    let sending = tokio::spawn(async move {
        client.stream_data(&uri, &key(0), sender(0, 1, 1), schema(), fed).await
    });
    for at in 0..8 {
        feed.send(Ok(batch(at * 5_000, 5_000))).await.unwrap();
        let some = || async {
            let there = worker.exchange.get_available_partitions("query:1", 3);
            there.is_ok_and(|there| there.partitions[0].rows as i64 > at * 5_000)
        };
        sheaf_testkit::wait_until_async(LONG, "rows", some).await.unwrap();
        proxy.close_connections();
    }
    drop(feed);
    let sent = soon("the send", sending).await.unwrap().unwrap();
    assert_eq!(sent.totals.rows, 40_000);
    assert!(proxy.accepted() > 4, "{} connections", proxy.accepted());
    assert_eq!(read(&plain(), &worker.uri, 0).await.unwrap(), (0..40_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_when_its_connection_breaks() {
    let worker = Worker::new().await;
    let rows = rows(0, 60_000, 1_000);
    plain().stream_data(&worker.uri, &key(0), sender(0, 1, 1), schema(), rows).await.unwrap();
    let proxy = sheaf_testkit::FaultProxy::start(worker.handle.local_addr()).unwrap();
    // Small pages, so that much is left when the connection breaks.
    let pages = ReadOptions { max_bytes: 64 << 10, ..ReadOptions::default() };
    let reader = client(options(Compression::Snappy));
    let mut reader = reader.request_data(&proxy.uri(), &key(0), None, pages).await.unwrap();
    let mut got = numbers(&[reader.next().await.unwrap().unwrap()]);
    let before = proxy.accepted();
    proxy.close_connections();
    assert!(reader.position() < 10);
    got.extend(soon("the rest", read_all(reader)).await.unwrap());
    assert_eq!(got, (0..60_000).collect::<Vec<_>>());
    assert!(proxy.accepted() > before, "the connection was not made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_waits_for_memory_and_holds_nothing_of_the_governor() {
    let worker = Worker::with(512 << 10, Security::none()).await;
    let governor = Governor::new(256 << 10);
    let set = options(Compression::Zstd);
    let sending = DataExchangeClient::new(pool(), SystemClock::shared(), governor.clone(), set);
    let uri = worker.uri.clone();
    let sending = tokio::spawn(async move {
        let rows = rows(0, 60_000, 2_000);
        sending.stream_data(&uri, &key(0), sender(0, 1, 1), schema(), rows).await
    });
    let is_full = || async { worker.budget.used() > 480 << 10 && governor.in_flight() == 0 };
    sheaf_testkit::wait_until_async(LONG, "full memory, empty governor", is_full).await.unwrap();
    assert!(!sending.is_finished());
    let options = ReadOptions {
        pipelined: true,
        consume: true,
        max_bytes: 64 << 10,
        wait: LONG,
        ..ReadOptions::default()
    };
    let reader = plain().request_data(&worker.uri, &key(0), None, options).await.unwrap();
    let got = soon("the read", read_all(reader)).await.unwrap();
    assert_eq!(got, (0..60_000).collect::<Vec<_>>());
    soon("the send", sending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_has_lost_is_not_passed_over() {
    let worker = Worker::new().await;
    let (feed, fed) = tokio::sync::mpsc::channel(1);
    let fed = stream::unfold(fed, |mut fed| async move { Some((fed.recv().await?, fed)) });
    let governor = Governor::new(4 << 20);
    let set = options(Compression::None);
    let client = DataExchangeClient::new(pool(), SystemClock::shared(), governor.clone(), set);
    let (uri, address) = (worker.uri.clone(), worker.handle.local_addr().to_string());
    let sending = tokio::spawn(async move {
        client.stream_data(&uri, &key(0), sender(0, 1, 1), schema(), fed).await
    });
    feed.send(Ok(batch(0, 5_000))).await.unwrap();
    let taken = || async {
        let there = worker.exchange.get_available_partitions("query:1", 3);
        there.is_ok_and(|there| there.partitions[0].rows > 0) && governor.in_flight() == 0
    };
    sheaf_testkit::wait_until_async(LONG, "the answers", taken).await.unwrap();
    // Another worker has its place, which knows nothing.
    worker.handle.drain(std::time::Duration::ZERO).await;
    let other = Worker::at(&address, 256 << 20, Security::none()).await;
    // Who has failed already takes no more rows.
    feed.send(Ok(batch(5_000, 5_000))).await.ok();
    drop(feed);
    let failed = soon("the send", sending).await.unwrap().unwrap_err();
    let Error::Send(failed) = &failed else { panic!("{failed:?}") };
    assert_eq!(failed.cause.code(), Code::PayloadLost, "{}", failed.cause);
    let unready = read(&plain(), &other.uri, 0).await.unwrap_err();
    assert_eq!(unready.code(), Code::Unavailable, "{unready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_named() {
    let worker = Worker::new().await;
    let uri = worker.uri.clone();
    worker.handle.drain(std::time::Duration::ZERO).await;
    let mut set = options(Compression::None);
    set.retry = RetryPolicy::none();
    let client = client(set);
    let failed = client.stream_data(&uri, &key(5), sender(0, 1, 1), schema(), rows(0, 9, 9)).await;
    let Err(Error::Send(failed)) = failed else { panic!("{failed:?}") };
    assert_eq!((failed.peer.as_str(), failed.partition.partition()), (uri.as_str(), 5));
    assert_eq!(failed.cause.code(), Code::Unavailable);
}

/// The service without a network, with a partition of several chunks in it.
async fn filled() -> (DataExchangeService, Exchange, usize) {
    let exchange = Exchange::new(Budget::new(256 << 20), SystemClock::shared());
    let options = ChunkOptions { chunk_bytes: 16 << 10, ..ChunkOptions::default() };
    let (first, chunks) = serialize_to_chunks(schema(), &[batch(0, 50_000)], options).unwrap();
    let schema = sheaf_exchange::service::deserialize_schema(&first).unwrap();
    let key = key(0);
    exchange.begin(&key, sender(0, 1, 1), &sheaf_flight::ipc::encode_schema(&schema)).unwrap();
    let messages = sheaf_flight::ipc::encode_batches(
        schema,
        &sheaf_exchange::service::deserialize_from_chunks(&first, &chunks).unwrap(),
    )
    .unwrap();
    for (sequence, message) in (0..).zip(messages.into_iter().skip(1)) {
        exchange.push(&key, sender(0, 1, 1), sequence, None, message).unwrap();
    }
    let totals = sheaf_exchange::shuffle::Totals { chunks: chunks.len() as u64, rows: 50_000 };
    exchange.commit(&key, sender(0, 1, 1), totals).unwrap();
    (DataExchangeService::new(exchange.clone()), exchange, chunks.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_made_when_the_reader_has_taken_the_one_before_and_a_dropped_call_holds_nothing()
{
    let (service, exchange, count) = filled().await;
    let request = proto::RequestDataRequest {
        query: "query:1".to_owned(),
        stage: 3,
        compression: Compression::Snappy.to_proto().into(),
        ..Default::default()
    };
    let answer = service.request_data(tonic::Request::new(request)).await.unwrap();
    let mut answers = answer.into_inner();
    for at in 0..3 {
        let given = answers.next().await.unwrap().unwrap().message.unwrap();
        assert_eq!(matches!(given, Given::Begin(_)), at == 0);
    }
    // What was not read yet was not made: the clean-up is what comes next.
    assert!(count > 20);
    exchange.cleanup_query_data("query:1").unwrap();
    let error = answers.next().await.unwrap().unwrap_err();
    assert!(error.message().contains("cleaned up"), "{error}");
    drop(answers);
    assert_eq!(exchange.budget().used(), 0);
    let service = Arc::new(service);
    let missing = proto::RequestDataRequest {
        query: "query:2".to_owned(),
        wait_ms: 600_000,
        ..Default::default()
    };
    // One that waits, and is dropped.
    let waits = service.request_data(tonic::Request::new(missing));
    assert!(futures::poll!(std::pin::pin!(waits)).is_pending());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credits_shrink_with_the_memory_that_is_left() {
    let worker = Worker::with(1 << 20, Security::none()).await;
    let options = ChunkOptions { chunk_bytes: 200 << 10, compression: Compression::Lz4 };
    let (first, chunks) = serialize_to_chunks(schema(), &[batch(0, 40_000)], options).unwrap();
    let said = [Said::Begin(begin(first))].into_iter().chain(chunks.into_iter().map(Said::Chunk));
    let sent = stream::iter(requests(said.collect()));
    let mut answers = worker.raw().await.stream_data(sent).await.unwrap().into_inner();
    let mut credits = Vec::new();
    let error = loop {
        match answers.message().await {
            Ok(answer) => credits.push(answer.unwrap().credit_bytes),
            Err(error) => break sheaf_flight::Error::from(error),
        }
    };
    assert!(credits.len() > 3 && credits.is_sorted_by(|one, next| one > next), "{credits:?}");
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(error.retry_after().is_some());
    let used = worker.budget.used();
    assert!(used <= 1 << 20, "{used}");
    worker.exchange.cleanup_query_data("query:1").unwrap();
    assert_eq!(worker.budget.used(), 0, "what was unfolded is not counted for ever");
}
