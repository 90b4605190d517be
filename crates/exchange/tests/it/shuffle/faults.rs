//! Senders and receivers that die, wires that hurt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_exchange::shuffle::{
    Error, ExchangeOptions, FetchFailed, ReadOptions, ShuffleHandler, ShufflePlan, ShuffleTicket,
};
use sheaf_flight::{CallContext, Descriptor, FlightEntry, Handler, Message, MessageStream};
use sheaf_retry::{Code, RetryPolicy, Retryable as _};

use super::world::{
    LONG, Worker, batch, client, key, numbers, options, read, read_all, rows, schema, sender, soon,
};

/// Serves a shuffle over a bad wire.
struct Bad {
    inner: ShuffleHandler,
    /// So many gets and puts have a byte of their first chunk flipped.
    flips: AtomicUsize,
    /// Gets break off after so many chunks; 0 means never.
    cut_after: usize,
    /// From where each get was asked for.
    asked: Mutex<Vec<u64>>,
}

impl Bad {
    fn new(inner: ShuffleHandler, flips: usize, cut_after: usize) -> Arc<Self> {
        let (flips, asked) = (AtomicUsize::new(flips), Mutex::default());
        Arc::new(Bad { inner, flips, cut_after, asked })
    }

    /// Flips a byte of the first chunk that passes, if it is to be.
    fn hurt(&self, messages: MessageStream) -> MessageStream {
        let one_less = |left: usize| left.checked_sub(1);
        if self.flips.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
            return messages;
        }
        let hurt = messages.enumerate().map(|(at, message)| {
            let mut message = message?;
            if at == 1 {
                let mut body = message.contiguous_body().to_vec();
                let middle = body.len() / 2;
                body[middle] ^= 4;
                message.body = vec![Bytes::from(body)];
            }
            Ok(message)
        });
        hurt.boxed()
    }
}

type FlightResult<T> = Result<T, sheaf_flight::Error>;

#[async_trait]
impl Handler for Bad {
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> FlightResult<Bytes> {
        self.inner.put(context, descriptor, self.hurt(messages)).await
    }

    async fn get(&self, context: &CallContext, ticket: &str) -> FlightResult<MessageStream> {
        let parsed: ShuffleTicket = ticket.parse()?;
        self.asked.lock().unwrap().push(parsed.options.from_sequence);
        let messages = self.hurt(self.inner.get(context, ticket).await?);
        if self.cut_after == 0 {
            return Ok(messages);
        }
        let cut = || Err(sheaf_flight::Error::new(Code::Unavailable, "the connection broke"));
        let is_end = |message: &Message| message.header.is_empty();
        let messages: Vec<Message> = messages.try_collect().await?;
        let some = messages.iter().take(self.cut_after + 1).cloned().map(Ok).collect::<Vec<_>>();
        let whole = messages.len() <= some.len() && messages.last().is_some_and(is_end);
        let rest = if whole { Vec::new() } else { vec![cut()] };
        Ok(stream::iter(some.into_iter().chain(rest)).boxed())
    }

    async fn list(
        &self,
        context: &CallContext,
        criteria: &[u8],
    ) -> FlightResult<BoxStream<'static, FlightResult<FlightEntry>>> {
        self.inner.list(context, criteria).await
    }

    async fn info(&self, context: &CallContext, one: Descriptor) -> FlightResult<FlightEntry> {
        self.inner.info(context, one).await
    }
}

/// A worker whose wire is bad, and the wire.
async fn bad(flips: usize, cut_after: usize) -> (Worker, Arc<Bad>) {
    let mut kept = None;
    let worker = Worker::behind(|inner| {
        let bad = Bad::new(inner, flips, cut_after);
        kept = Some(Arc::clone(&bad));
        bad
    })
    .await;
    (worker, kept.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_that_breaks_goes_on_at_the_last_whole_chunk() {
    let (worker, wire) = bad(0, 3).await;
    worker
        .client()
        .store_intermediate_results(&key(0), sender(0, 1, 1), schema(), rows(0, 8_000, 500))
        .await
        .unwrap();
    let got = soon("the read", read(&client(options()), &worker.uri, 0)).await.unwrap();
    assert_eq!(numbers(&got), (0..8_000).collect::<Vec<_>>());
    let asked = wire.asked.lock().unwrap().clone();
    assert!(asked.len() > 5, "{asked:?}");
    let expected: Vec<u64> = (0..asked.len() as u64).map(|at| at * 3).collect();
    assert_eq!(asked, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hurt_chunk_is_asked_for_once_more_and_then_given_up() {
    for (flips, asked) in [(1, 2), (100, 2)] {
        let (worker, wire) = bad(flips, 0).await;
        worker
            .client()
            .store_intermediate_results(&key(0), sender(0, 1, 1), schema(), rows(0, 900, 100))
            .await
            .unwrap();
        let got = read(&client(options()), &worker.uri, 0).await;
        assert_eq!(wire.asked.lock().unwrap().len(), asked);
        match got {
            Ok(got) if flips == 1 => assert_eq!(numbers(&got), (0..900).collect::<Vec<_>>()),
            Err(Error::Fetch(failed)) if flips > 1 => {
                assert!(matches!(*failed.cause, Error::Corrupt { sequence: 0, .. }), "{failed}");
            }
            other => panic!("{flips}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hurt_chunk_is_not_taken_and_sent_once_more() {
    for flips in [1, 100] {
        let (worker, wire) = bad(flips, 0).await;
        let sent = client(options())
            .send_data_to_worker(&worker.uri, &key(0), sender(0, 1, 1), schema(), rows(0, 90, 90))
            .await;
        if flips == 1 {
            sent.unwrap();
            let got = read(&worker.client(), &worker.uri, 0).await.unwrap();
            assert_eq!(numbers(&got), (0..90).collect::<Vec<_>>());
        } else {
            assert_eq!(sent.unwrap_err().code(), Code::Corrupt);
            assert_eq!(wire.flips.load(Ordering::SeqCst), 98);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_dies_in_the_middle_is_replaced_by_its_next_attempt() {
    let worker = Worker::new().await;
    let plan = |attempt| ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(0, attempt, 1),
        workers: vec![worker.uri.clone()],
        partitions: 3,
    };
    // Its rows stop coming; then it is dropped.
    let (first, client) = (plan(1), client(options()));
    let endless = rows(0, 5_000, 500).chain(stream::pending());
    let dying = tokio::spawn({
        let client = client.clone();
        async move { client.perform_hash_shuffle(&first, ["key"], schema(), endless).await }
    });
    let has_some = || async {
        let there = worker.exchange.get_available_partitions("query:1", 3);
        there.is_ok_and(|there| there.partitions.iter().filter(|one| one.rows > 0).count() == 3)
    };
    sheaf_testkit::wait_until_async(LONG, "some rows of each", has_some).await.unwrap();
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    // Its calls are ended too, on whatever thread they are.
    let nothing = || async { client.governor().in_flight() == 0 };
    sheaf_testkit::wait_until_async(LONG, "nothing in flight", nothing).await.unwrap();
    let unready = read(&client, &worker.uri, 0).await.unwrap_err();
    assert_eq!(unready.code(), Code::Unavailable, "{unready}");

    let second = plan(2);
    let again = client.perform_hash_shuffle(&second, ["key"], schema(), rows(0, 5_000, 300));
    soon("the second attempt", again).await.unwrap();
    let mut all = Vec::new();
    for partition in 0..3 {
        all.extend(read(&client, &worker.uri, partition).await.unwrap());
    }
    assert_eq!(numbers(&all), (0..5_000).collect::<Vec<_>>());
    // Who was thought dead and comes back is refused.
    let late = client.perform_hash_shuffle(&plan(1), ["key"], schema(), rows(0, 5_000, 500)).await;
    assert_eq!(late.unwrap_err().code(), Code::StaleFence);
    worker.exchange.cleanup_query_data("query:1").unwrap();
    assert_eq!(worker.budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_attempts_at_once_one_is_read_as_a_whole() {
    for round in 0..8 {
        let worker = Worker::new().await;
        let attempt = |number: u64| {
            let (client, uri) = (client(options()), worker.uri.clone());
            // Each cuts its chunks another way, so that a mixture would show.
            let rows = rows(0, 6_000, 200 + 77 * (number + round) as usize);
            async move {
                let sender = sender(0, number, 1);
                client.send_data_to_worker(&uri, &key(0), sender, schema(), rows).await
            }
        };
        let both = futures::future::join(attempt(1), attempt(2));
        let (older, newer) = soon("both attempts", both).await;
        newer.unwrap();
        if let Err(error) = older {
            assert_eq!(error.code(), Code::StaleFence, "{error}");
        }
        let got = read(&client(options()), &worker.uri, 0).await.unwrap();
        assert_eq!(numbers(&got), (0..6_000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_restarted_is_sent_everything_again() {
    let worker = Worker::new().await;
    let (client, address) = (client(options()), worker.handle.local_addr().to_string());
    let uri = worker.uri.clone();
    client
        .send_data_to_worker(&uri, &key(0), sender(0, 1, 1), schema(), rows(0, 500, 100))
        .await
        .unwrap();
    // Another partition is under way while it goes.
    let (feed, fed) = tokio::sync::mpsc::channel(4);
    let fed = stream::unfold(fed, |mut fed| async move { Some((Ok(fed.recv().await?), fed)) });
    let under_way = tokio::spawn({
        let (client, uri) = (client.clone(), uri.clone());
        async move { client.send_data_to_worker(&uri, &key(1), sender(0, 1, 1), schema(), fed).await }
    });
    feed.send(batch(0, 2_000)).await.unwrap();
    let begun = || async {
        let there = worker.exchange.get_available_partitions("query:1", 3);
        there.is_ok_and(|there| there.partitions.len() == 2 && there.partitions[1].rows > 0)
    };
    sheaf_testkit::wait_until_async(LONG, "the second partition", begun).await.unwrap();
    // The sender knows that its first chunks were taken.
    let known = || async { client.governor().in_flight() == 0 };
    sheaf_testkit::wait_until_async(LONG, "the answers", known).await.unwrap();
    worker.handle.drain(Duration::ZERO).await;
    let worker = Worker::at(&address, 256 << 20).await;
    assert_eq!(worker.uri, uri);

    feed.send(batch(2_000, 2_000)).await.unwrap();
    drop(feed);
    let failed = soon("the send", under_way).await.unwrap();
    let Err(Error::Send(failed)) = failed else { panic!("{failed:?}") };
    assert_eq!((failed.peer.as_str(), failed.partition.partition()), (uri.as_str(), 1));
    assert!(failed.cause.to_string().contains("is missing"), "{}", failed.cause);
    let gone = read(&client, &uri, 0).await.unwrap_err();
    let failed = FetchFailed::of(&gone).unwrap();
    assert_eq!((failed.peer.as_str(), &failed.partition), (uri.as_str(), &key(0)));
    assert_eq!(failed.cause.code(), Code::NotFound);

    for (partition, to) in [(0, 500), (1, 4_000)] {
        let rows = rows(0, to, 100);
        client
            .send_data_to_worker(&uri, &key(partition), sender(0, 2, 1), schema(), rows)
            .await
            .unwrap();
        let got = read(&client, &uri, partition).await.unwrap();
        assert_eq!(numbers(&got), (0..to).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_when_the_connection_breaks_and_comes_back() {
    let worker = Worker::new().await;
    worker
        .client()
        .store_intermediate_results(&key(0), sender(0, 1, 1), schema(), rows(0, 60_000, 1_000))
        .await
        .unwrap();
    let proxy = sheaf_testkit::FaultProxy::start(worker.handle.local_addr()).unwrap();
    let client = client(options());
    // Small pages, so that much is left when the connection breaks.
    let pages = ReadOptions { max_bytes: 64 << 10, ..ReadOptions::default() };
    let reader = client.request_data_from_worker(&proxy.uri(), &key(0), None, pages).await;
    let mut reader = reader.unwrap();
    let mut got = super::world::column(&reader.next().await.unwrap().unwrap(), 1);
    let before = proxy.accepted();
    proxy.close_connections();
    assert!(reader.position() < 10);
    let rest = soon("the rest", read_all(reader)).await.unwrap();
    got.extend(rest.iter().map(|(_, number)| *number));
    assert_eq!(got, (0..60_000).collect::<Vec<_>>());
    assert!(proxy.accepted() > before, "the connection was not made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_named_however_the_error_is_wrapped() {
    #[derive(Debug, thiserror::Error)]
    #[error("the stage failed")]
    struct Stage(#[source] sheaf_flight::Error);

    let worker = Worker::new().await;
    let uri = worker.uri.clone();
    worker.handle.drain(Duration::ZERO).await;
    let client = client(ExchangeOptions { retry: RetryPolicy::none(), ..options() });
    let failed = soon("the read", read(&client, &uri, 5)).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "{failed}");
    let wrapped = Stage(sheaf_flight::Error::from(failed));
    let failed = FetchFailed::of(&wrapped).unwrap();
    assert_eq!((failed.peer.as_str(), failed.partition.partition()), (uri.as_str(), 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_go_on_in_what_was_sent_to_a_restarted_receiver() {
    let worker = Worker::new().await;
    let (client, address) = (client(options()), worker.handle.local_addr().to_string());
    let uri = worker.uri.clone();
    let zero = key(0);
    let send = |index: u32, attempt: u64| {
        let from = 2_000 * i64::from(index);
        let rows = rows(from, from + 2_000, 500);
        client.send_data_to_worker(&uri, &zero, sender(index, attempt, 2), schema(), rows)
    };
    send(0, 1).await.unwrap();
    send(1, 1).await.unwrap();
    let pages = ReadOptions { max_bytes: 1, ..ReadOptions::default() };
    let mut reader = client.request_data_from_worker(&uri, &zero, None, pages).await.unwrap();
    assert!(reader.next().await.unwrap().is_some());
    assert_eq!(reader.position(), 1);

    worker.handle.drain(Duration::ZERO).await;
    let worker = Worker::at(&address, 256 << 20).await;
    send(0, 2).await.unwrap();
    send(1, 2).await.unwrap();
    // Somebody has read it, so that the position would be one.
    let got = read(&client, &uri, 0).await.unwrap();
    assert_eq!(numbers(&got), (0..4_000).collect::<Vec<_>>());
    let error = soon("the next chunk", reader.next()).await.unwrap_err();
    assert_eq!(error.code(), Code::PayloadLost, "{error}");
    assert!(FetchFailed::of(&error).is_some());
    drop(worker);
}
