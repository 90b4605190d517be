//! What its ports let in and tell.

use futures::{StreamExt as _, stream};
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, Error, FlightConnection, Message};
use sheaf_retry::{Code, Retryable as _, SystemClock};

use crate::cases::{DATA_TOKEN, Hosted, World, eventually, get};
use crate::parts::{Collect, Numbers, Written, numbers};
use crate::shapes::pipeline;

const OUT: &str = "id: out, kind: stdout, inputs: [numbers]";

async fn source() -> (World, Hosted, FlightConnection) {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let source = world.host("numbers", |start| {
        let numbers = Numbers::up_to(&start, 1_000, 10);
        Numbers { is_endless: true, ..numbers }.boxed()
    });
    let address = world.address("numbers").await;
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&address).unwrap();
    (world, source, connection)
}

/// Says hello and no more, and gives what comes.
async fn read(
    connection: &FlightConnection,
    token: &str,
    hello: &str,
) -> Result<sheaf_flight::MessageStream, Error> {
    let first = Message { app_metadata: hello.to_owned().into(), ..Message::default() };
    let said = stream::iter([Ok(first)]).chain(stream::pending()).boxed();
    let options = CallOptions::default().header("sheaf-data-token", token);
    connection.exchange(&["edges", "numbers:out", "0", "0"], &options, said).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_token_is_refused() {
    let (world, source, connection) = source().await;
    for token in ["", "another token", &DATA_TOKEN[1..]] {
        let refused = read(&connection, token, r#"{"version":1,"credits":1}"#).await;
        assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated, "{token:?}");
        let options = CallOptions::default().header("sheaf-data-token", token);
        let refused = connection.get("taps/numbers:out", &options).await;
        assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated, "{token:?}");
    }
    assert_eq!(source.sent("connections").await, 0);
    // A component with a wrong one says so, and ends.
    let mut assignment = world.assignment("out");
    assignment.data_token = "that of another run".to_owned();
    let sink = world.host_as(assignment, |_| Collect::into(&Written::default()).boxed());
    let error = sink.ended().await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.chain().contains("numbers:out 0->0"), "{}", error.chain());
    source.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gets_no_more_than_its_credits_and_a_newer_one_cuts_it_off() {
    let (_world, source, connection) = source().await;
    let hello = |fence: u64| format!(r#"{{"version":1,"fence":{fence},"credits":3}}"#);
    let mut old = read(&connection, DATA_TOKEN, &hello(7)).await.unwrap();
    let mut decoder = Decoder::new(Bounds::default());
    let (mut sequences, mut rows) = (Vec::new(), Vec::new());
    while sequences.len() < 3 {
        let message = old.next().await.unwrap().unwrap();
        if let Decoded::Batch(batch) = decoder.push(&message).unwrap() {
            let sequence = message.app_metadata.as_ref().try_into().unwrap();
            sequences.push(u64::from_le_bytes(sequence));
            rows.extend(numbers(&batch));
        }
    }
    assert_eq!((sequences, rows), (vec![1, 2, 3], (0..30).collect::<Vec<_>>()));
    assert_eq!(source.sent("credits").await, 0);
    let mut new = read(&connection, DATA_TOKEN, &hello(8)).await.unwrap();
    assert_eq!(old.next().await.unwrap().unwrap_err().code(), Code::StaleFence);
    assert!(new.next().await.unwrap().is_ok());
    // The old one comes back, and is not let in.
    let refused = match read(&connection, DATA_TOKEN, &hello(7)).await {
        Ok(mut messages) => messages.next().await.unwrap().err(),
        Err(error) => Some(error),
    };
    assert_eq!(refused.unwrap().code(), Code::StaleFence);
    source.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_stream_or_no_hello_is_refused() {
    let (_world, source, connection) = source().await;
    for (hello, code) in [
        ("{}", Code::MalformedData),
        ("not JSON", Code::MalformedData),
        (r#"{"version":2,"credits":1}"#, Code::FormatNewer),
    ] {
        let refused = read(&connection, DATA_TOKEN, hello).await;
        assert_eq!(refused.err().unwrap().code(), code, "{hello}");
    }
    let options = CallOptions::default().header("sheaf-data-token", DATA_TOKEN);
    for (path, code) in [
        (vec!["edges", "numbers:out", "0", "1"], Code::NotFound),
        (vec!["edges", "numbers:out", "0", "x"], Code::InvalidArgument),
        (vec!["edges", "numbers:out"], Code::InvalidArgument),
    ] {
        let first = Message { app_metadata: "{}".into(), ..Message::default() };
        let said = stream::iter([Ok(first)]).boxed();
        let refused = connection.exchange(&path, &options, said).await;
        assert_eq!(refused.err().unwrap().code(), code, "{path:?}");
    }
    source.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_shows_what_goes_over_an_edge_and_holds_up_nobody() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let source = world.host("numbers", |start| Numbers::up_to(&start, 50_000, 1).boxed());
    let address = world.address("numbers").await;
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&address).unwrap();
    let options = CallOptions::default().header("sheaf-data-token", DATA_TOKEN);
    // One that never reads, and one that does.
    let _idle = connection.get("taps/numbers:out", &options).await.unwrap();
    let mut tap = connection.get("taps/numbers:out", &options).await.unwrap();
    eventually("both look", || async { source.stats().await["outputs"][0]["taps"] == 2 }).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let mut decoder = Decoder::new(Bounds::default());
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let message = tap.next().await.unwrap().unwrap();
        if let Decoded::Batch(batch) = decoder.push(&message).unwrap() {
            seen.extend(numbers(&batch));
        }
    }
    assert!(seen.is_sorted() && seen[19] < 50_000);
    let other = connection.get("taps/numbers:other", &options).await;
    assert_eq!(other.err().unwrap().code(), Code::NotFound);
    drop(tap);
    source.done().await;
    sink.done().await;
    assert_eq!(written.batches(), 50_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_stats_and_metrics_tell_how_it_is() {
    let (_world, source, connection) = source().await;
    let hello = r#"{"version":1,"credits":3}"#;
    let _reading = read(&connection, DATA_TOKEN, hello).await.unwrap();
    // A full stream is filled again when half of it is gone: how full it is depends on who was
    // the quicker one.
    eventually("three were sent", || async {
        let stats = source.stats().await;
        let stream = &stats["outputs"][0]["streams"][0];
        let of = |field: &str| stream[field].as_u64().unwrap();
        of("batches") >= 32 && of("unacknowledged") == of("waiting") + 3
    })
    .await;
    let sent = source.sent("batches").await;
    let (status, body) = get(&source.health, "/health").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", r#"{"status":"healthy"}"#));
    let stats = source.stats().await;
    assert_eq!(
        (stats["state"].as_str(), stats["role"].as_str()),
        (Some("running"), Some("source"))
    );
    let (_, metrics) = get(&source.health, "/metrics").await;
    let labels = r#"{pipeline="test",edge="numbers:out",from="0",to="0"}"#;
    for line in [
        format!("sheaf_component_sent_events_total{labels} {sent}"),
        format!("sheaf_component_sent_rows_total{labels} {}", sent * 10),
        format!("sheaf_component_unacknowledged_events{labels} {sent}"),
        format!("sheaf_component_waiting_events{labels} {}", sent - 3),
        format!("sheaf_component_reader_connected{labels} 1"),
        format!("sheaf_component_dropped_events_total{labels} 0"),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let (status, _) = get(&source.health, "/other").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    source.stop.cancel();
}
