//! Every limit, hit once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow_flight::{FlightData, FlightDescriptor};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::{CallOptions, Error, Limits};
use sheaf_retry::{Code, ManualClock, RetryPolicy, Retryable as _, Timestamp};

use crate::support::{World, connect, messages, stream_of, until};

fn once() -> CallOptions {
    CallOptions::default().retry(RetryPolicy::none())
}

fn rejected(world: &World, limit: &str) -> u64 {
    world.metric(&format!("sheaf_flight_rejected_total{{limit=\"{limit}\"}}"))
}

fn first_data(id: &str) -> FlightData {
    let path = vec!["batches".to_owned(), id.to_owned()];
    FlightData {
        flight_descriptor: Some(FlightDescriptor { r#type: 1, path, cmd: Bytes::new() }),
        data_header: messages(0, 0)[0].header.clone(),
        ..FlightData::default()
    }
}

#[tokio::test]
async fn messages_over_the_limit_are_refused_at_both_gates() {
    let limits = Limits { max_message_bytes: 100_000, ..Limits::default() };
    let world = World::with(limits).await;
    // Just over: found on the message. Far over: found by gRPC before it is read.
    for rows in [13_000, 100_000] {
        let error = world
            .connection
            .put(&["batches", "big"], &once(), stream_of(messages(1, rows)))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{rows}: {error}");
        assert!(error.message().contains("max_message_bytes"), "{error}");
        assert!(error.message().contains("100000"), "{error}");
    }
    // A call of one message is refused by gRPC alone, in the same words.
    let body = Bytes::from(vec![b' '; 1_000_000]);
    let error = world.connection.action("Echo", body, &once()).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    assert!(error.message().contains("max_message_bytes is 100000"), "{error}");
    assert_eq!(rejected(&world, "message"), 3);
    assert!(world.memory.streams.lock().unwrap().is_empty());
    world
        .connection
        .put(&["batches", "ok"], &once(), stream_of(messages(9, 12_000)))
        .await
        .unwrap();

    // A namespace may take less than the server.
    let error = world
        .connection
        .put(&["small", "x"], &once(), stream_of(messages(1, 100)))
        .await
        .unwrap_err();
    assert!(error.message().contains("max_message_bytes is 100"), "{error}");
}

#[tokio::test]
async fn a_stored_message_over_the_limit_is_not_sent() {
    let limits = Limits { max_message_bytes: 1_000, ..Limits::default() };
    let world = World::with(limits).await;
    world.memory.streams.lock().unwrap().insert("old".to_owned(), messages(1, 1_000));
    let got = world.connection.get("batches/old", &once()).await.unwrap();
    let error = got.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
}

#[tokio::test]
async fn schema_and_action_have_limits_of_their_own() {
    let limits = Limits { max_schema_bytes: 50, max_action_bytes: 5, ..Limits::default() };
    let world = World::with(limits).await;
    let error = world
        .connection
        .put(&["batches", "x"], &once(), stream_of(messages(1, 1)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    assert!(error.message().contains("max_schema_bytes is 50"), "{error}");
    let error =
        world.connection.action("Echo", Bytes::from_static(b"123456"), &once()).await.unwrap_err();
    assert!(error.message().contains("6 bytes, max_action_bytes is 5"), "{error}");
    assert_eq!((rejected(&world, "schema"), rejected(&world, "action")), (1, 1));
}

#[tokio::test]
async fn nesting_is_limited_where_it_is_said_to_be() {
    let world = World::new().await;
    let put = async |depth: usize| {
        let mut field = Field::new("f", DataType::Int8, true);
        for _ in 1..depth {
            field = Field::new("f", DataType::List(Arc::new(field)), true);
        }
        let schema = sheaf_flight::ipc::encode_schema(&Schema::new(vec![field]));
        world.connection.put(&["batches", "deep"], &once(), stream_of(vec![schema])).await
    };
    put(64).await.unwrap();
    let error = put(100).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    assert!(error.message().contains("deeper than the limit of 64"), "{error}");
}

async fn calls_are_limited(limits: Limits, label: &str) {
    let world = World::with(limits).await;
    let held: Vec<_> = futures::future::join_all((0..2).map(|_| async {
        let mut stream = world.connection.get("batches/endless", &once()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        stream
    }))
    .await;
    let error = world.connection.get("batches/endless", &once()).await.err().unwrap();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    assert!(error.retry_after().is_some());
    assert_eq!(rejected(&world, label), 1);
    drop(held);
    until("the streams are gone", || world.metric("sheaf_flight_active_calls") == 0).await;
    world.connection.action("Echo", Bytes::new(), &once()).await.unwrap();
}

#[tokio::test]
async fn calls_are_limited_in_all() {
    calls_are_limited(Limits { max_calls: 2, ..Limits::default() }, "calls").await;
}

#[tokio::test]
async fn calls_are_limited_by_peer() {
    // The client knows nothing of the limit: HTTP/2 would make it wait, so two
    // connections are used where one is full.
    let world = World::with(Limits { max_calls_per_peer: 2, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = world.connection.get("batches/endless", &once()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        held.push(stream);
    }
    let other = connect(&world.handle.uri());
    let error = other.get("batches/endless", &once()).await.err().unwrap();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    assert!(error.message().contains("max_calls_per_peer"), "{error}");
    assert_eq!(rejected(&world, "calls_per_peer"), 1);
}

#[tokio::test]
async fn connections_are_limited() {
    let world = World::with(Limits { max_connections: 1, ..Limits::default() }).await;
    world.connection.action("Echo", Bytes::new(), &once()).await.unwrap();
    let error = connect(&world.handle.uri()).actions(&once()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(rejected(&world, "connections") >= 1);
    assert_eq!(world.metric("sheaf_flight_connections"), 1);
}

#[tokio::test]
async fn a_silent_client_loses_its_put() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let world = World::at(clock.clone(), Limits::default()).await;
    let mut raw = world.raw().await;
    let silent = stream::iter([first_data("silent")]).chain(stream::pending());
    let put = tokio::spawn(async move { raw.do_put(silent).await.map(drop) });
    until("the server waits for bytes", || {
        world.metric("sheaf_flight_received_bytes_total") > 0 && clock.sleepers() == 1
    })
    .await;
    clock.advance(Limits::default().put_idle_timeout);
    let error = Error::from(put.await.unwrap().unwrap_err());
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.message().contains("put_idle_timeout"), "{error}");
    // The handler saw the same, and could free what it held.
    let broken = world.memory.broken.lock().unwrap().pop().unwrap();
    assert_eq!(broken.code(), Code::DeadlineExceeded);
    assert_eq!(rejected(&world, "idle"), 1);
    assert!(world.memory.streams.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_handler_is_not_a_silent_client() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let world = World::at(clock.clone(), Limits::default()).await;
    let (mut sender, source) = futures::channel::mpsc::channel::<FlightData>(4);
    let mut raw = world.raw().await;
    let put = tokio::spawn(async move { raw.do_put(source).await.map(drop) });
    sender.try_send(first_data("gate")).unwrap();
    until("the handler is at its gate", || world.memory.waiting.load(Ordering::SeqCst) == 1).await;
    // Nobody reads: however long this takes, the client is not to blame.
    assert_eq!(clock.sleepers(), 0);
    clock.advance(Duration::from_secs(3_600));
    drop(sender);
    world.memory.gate.add_permits(1);
    put.await.unwrap().unwrap();
    assert_eq!(rejected(&world, "idle"), 0);
}

#[tokio::test]
async fn a_connection_that_says_nothing_loses_its_place() {
    use tokio::io::AsyncReadExt as _;

    let clock = ManualClock::new(Timestamp::EPOCH);
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let world = World::at(clock.clone(), limits).await;
    let address = world.handle.local_addr();
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    until("it holds the only place", || world.metric("sheaf_flight_connections") == 1).await;
    until("its time runs", || clock.sleepers() > 0).await;
    clock.advance(Duration::from_secs(61));
    until("the place is free", || world.metric("sheaf_flight_connections") == 0).await;
    // What the server sent of its own accord, and then the end.
    let mut rest = Vec::new();
    drop(silent.read_to_end(&mut rest).await);
    world.connection.action("Echo", Bytes::new(), &once()).await.unwrap();
}
