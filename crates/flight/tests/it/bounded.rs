//! Clients that do not read, do not go on, or bring too much.

use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use sheaf_flight::{Budget, CallOptions, Error, Limits, MemoryBudget as _, Message};
use sheaf_retry::{Code, ManualClock, RetryPolicy, Retryable as _, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::support::{World, messages, stream_of, until};

const MIB: u64 = 1 << 20;

fn once() -> CallOptions {
    CallOptions::default().retry(RetryPolicy::none())
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_stream_and_one_that_waits_does_not() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let limits = Limits { get_idle_timeout: Duration::from_secs(60), ..Limits::default() };
    let world = World::at(clock.clone(), limits).await;
    // A conversation in which nobody says anything for a while.
    let (say, said) = mpsc::channel(1);
    say.send(Ok(messages(1, 1).remove(0))).await.unwrap();
    let said = ReceiverStream::new(said).boxed();
    let mut quiet = world.connection.exchange(&["batches"], &once(), said).await.unwrap();
    quiet.try_next().await.unwrap().unwrap();
    let uri = format!("http://{}", world.handle.local_addr());
    let channel = Channel::from_shared(uri).unwrap();
    let channel = channel.initial_stream_window_size(65_535).connect().await.unwrap();
    let ask = Ticket { ticket: Bytes::from_static(b"batches/endless-large") };
    let mut unread = FlightServiceClient::new(channel).do_get(ask).await.unwrap().into_inner();
    until("both are there", || world.metric("sheaf_flight_active_calls") == 2).await;
    let reader = "sheaf_flight_rejected_total{limit=\"reader\"}";
    until("nobody waits for it any more", || {
        clock.advance(Duration::from_secs(20));
        world.metric(reader) == 1
    })
    .await;
    until("its place is free", || world.metric("sheaf_flight_active_calls") == 1).await;
    let ended = "sheaf_flight_requests_total{method=\"DoGet\",code=\"deadline_exceeded\"}";
    assert_eq!(world.metric(ended), 1);
    while let Some(message) = unread.next().await {
        if message.is_err() {
            break;
        }
    }
    say.send(Ok(messages(1, 1).remove(1))).await.unwrap();
    quiet.try_next().await.unwrap().unwrap();
    assert_eq!(world.metric(reader), 1);
}

/// A put of which the caller sends the bytes itself.
async fn put_by_hand(world: &World) -> (mpsc::Sender<Bytes>, tokio::task::JoinHandle<i64>) {
    let (sender, bytes) = mpsc::channel(8);
    let frames = ReceiverStream::new(bytes).map(|piece| Ok::<_, tonic::Status>(Frame::data(piece)));
    let request = http::Request::post("/arrow.flight.protocol.FlightService/DoPut")
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap();
    let channel = world.channel().await;
    let call = tokio::spawn(async move {
        let response = channel.oneshot(request).await.unwrap();
        let headers = response.headers();
        headers["sheaf-retry-after-ms"].to_str().unwrap().parse().unwrap()
    });
    (sender, call)
}

/// A message with a body of so many bytes, as a put has it.
fn large(bytes: usize) -> Vec<Message> {
    let mut all = messages(1, 1);
    let last = all.last_mut().unwrap();
    last.body = vec![vec![7; bytes].into()];
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn where_memory_is_short_the_message_that_comes_slowest_goes_first() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let budget = Budget::new(8 * MIB);
    let world = World::within(clock.clone(), budget.clone()).await;
    let (slow, call) = put_by_hand(&world).await;
    // A message of 6 MiB: field 1000 with a length, and half of it.
    let size = 6 * 1_024 * 1_024_u32;
    let head = [&[0][..], &(size + 6).to_be_bytes(), &[0xc2, 0x3e, 0x80, 0x80, 0x80, 0x03]];
    slow.send(head.concat().into()).await.unwrap();
    let before = budget.used();
    for _ in 0..3 {
        slow.send(vec![7; 1 << 20].into()).await.unwrap();
    }
    until("half of it is counted", || budget.used() >= before + 3 * MIB).await;
    let put = async |name: &str| {
        world.connection.put(&["batches", name], &once(), stream_of(large(5 << 20))).await
    };
    let error = put("early").await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(error.retry_after().is_some(), "{error}");
    assert!(!call.is_finished(), "it may only just have begun");
    clock.advance(Duration::from_secs(2));
    put("late").await.unwrap();
    assert_eq!(call.await.unwrap(), 1_000, "it is told when to come again");
    assert!(world.metric("sheaf_flight_rejected_total{limit=\"memory\"}") >= 2);
    drop(slow);
    // What a handler keeps is counted for as long as it does.
    assert!(budget.used() >= 5 * MIB);
    world.memory.streams.lock().unwrap().clear();
    until("all is given back", || budget.used() < 2 * MIB).await;
}

#[tokio::test]
async fn a_call_is_counted_with_its_headers() {
    let budget = Budget::new(8 * MIB);
    let world = World::within(sheaf_retry::SystemClock::shared(), budget.clone()).await;
    let call = |options: CallOptions| {
        let body = Bytes::from_static(b"x");
        let connection = &world.connection;
        async move { connection.action("Echo", body, &options).await }
    };
    let heavy = || (0..900).fold(once(), |options, _| options.header("x", "y"));
    call(heavy()).await.unwrap();
    assert!(budget.try_take(budget.spare() - 100_000));
    let error: Error = call(heavy()).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(error.retry_after().is_some(), "{error}");
    call(once()).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_its_reader_is_counted() {
    let budget = Budget::new(64 * MIB);
    let clock = ManualClock::new(Timestamp::EPOCH);
    let world = World::within(clock, budget.clone()).await;
    let small = stream::iter(std::iter::repeat_n(messages(1, 1_000).remove(1), 1_000));
    let all = [messages(1, 1_000).remove(0)].into_iter();
    let all: Vec<Message> = stream::iter(all).chain(small).collect().await;
    world.memory.streams.lock().unwrap().insert("many".to_owned(), all);
    let uri = format!("http://{}", world.handle.local_addr());
    let channel = Channel::from_shared(uri).unwrap();
    let channel = channel.initial_stream_window_size(65_535).connect().await.unwrap();
    let ask = Ticket { ticket: Bytes::from_static(b"batches/many") };
    let before = budget.used();
    let unread = FlightServiceClient::new(channel).do_get(ask).await.unwrap();
    until("it is counted", || budget.used() >= before + 256 * 1_024).await;
    drop(unread);
    until("it is given back", || world.metric("sheaf_flight_active_calls") == 0).await;
    until("and with it its memory", || budget.used() <= before + 16 * 1_024).await;
}

#[tokio::test]
async fn a_connection_that_makes_no_call_gives_its_place_to_one_that_does() {
    use tokio::io::AsyncWriteExt as _;

    let clock = ManualClock::new(Timestamp::EPOCH);
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let world = World::at(clock.clone(), limits).await;
    let mut idle = tokio::net::TcpStream::connect(world.handle.local_addr()).await.unwrap();
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    idle.write_all(hello).await.unwrap();
    until("it holds the only place", || world.metric("sheaf_flight_connections") == 1).await;
    let error = world.connection.action("Echo", Bytes::new(), &once()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "the other has only just come: {error}");
    clock.advance(Duration::from_secs(11));
    let connection = world.connection.clone();
    let asked = tokio::spawn(async move { connection.action("Echo", Bytes::new(), &once()).await });
    // It does not say that it has heard, and is closed a second later.
    until("another one is served", || {
        clock.advance(Duration::from_millis(100));
        asked.is_finished()
    })
    .await;
    asked.await.unwrap().unwrap();
    let rejected = "sheaf_flight_rejected_total{limit=\"connections\"}";
    assert_eq!(world.metric(rejected), 1);
}
