//! Errors through the wire, and panics that stay where they are.

use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::{CODE_TRAILER, CallOptions, Error, FlightRouter, Message, grpc_code};
use sheaf_retry::{Code, Disposition, RetryPolicy, Retryable as _};

use crate::memory::{Echo, Memory};
use crate::support::{World, connect, messages, stream_of};

fn once() -> CallOptions {
    CallOptions::default().retry(RetryPolicy::none())
}

#[tokio::test]
async fn every_code_crosses_the_wire_with_its_hint() {
    let world = World::new().await;
    for &code in Code::ALL {
        let ticket = format!("batches/fail-{code}");
        let error = world.connection.get(&ticket, &once()).await.err().unwrap();
        assert_eq!(error.code(), code);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1)));
        assert_eq!(error.message(), format!("{}: as asked", world.handle.uri()));

        let put = stream_of(messages(1, 10));
        let error = world
            .connection
            .put(&["batches", &format!("fail-{code}")], &once(), put)
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "put: {error}");
        let label = format!("sheaf_flight_requests_total{{method=\"DoPut\",code=\"{code}\"}}");
        assert_eq!(world.metric(&label), 1);
    }
    let status = world
        .raw()
        .await
        .do_get(arrow_flight::Ticket { ticket: "batches/fail-stale_fence".into() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), grpc_code(Code::StaleFence));
    assert_eq!(status.message(), "stale_fence: as asked");
    assert_eq!(status.metadata().get(CODE_TRAILER).unwrap(), "stale_fence");
}

#[tokio::test]
async fn wrong_names_say_what_there_is() {
    let world = World::new().await;
    let connection = &world.connection;
    let cases = [
        (connection.info(&["nowhere", "x"], &once()).await.err(), Code::NotFound, "batches, small"),
        (connection.info(&[], &once()).await.err(), Code::InvalidArgument, "NAMESPACE"),
        (connection.info(&["batches", "x"], &once()).await.err(), Code::NotFound, "\"x\""),
        (connection.get("nowhere/x", &once()).await.err(), Code::NotFound, "batches, small"),
        (connection.get("", &once()).await.err(), Code::InvalidArgument, "empty"),
        (connection.get("/x", &once()).await.err(), Code::InvalidArgument, "NAMESPACE/NAME"),
        (
            connection.action("Nope", Bytes::new(), &once()).await.err(),
            Code::Unimplemented,
            "CancelFlightInfo, CloseSession, Echo",
        ),
    ];
    for (error, code, part) in cases {
        let error = error.unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_put_begins_with_descriptor_and_schema() {
    let world = World::new().await;
    let batch_first = messages(1, 10).split_off(1);
    let garbage = Message::new(Bytes::from_static(b"garbage!garbage!"), Bytes::new());
    let metadata = Message { app_metadata: Bytes::from_static(b"m"), ..Message::default() };
    for (sent, part) in [
        (batch_first, "is a record batch"),
        (vec![garbage], "no flatbuffer"),
        (vec![metadata], "no header"),
        (vec![], "empty"),
    ] {
        let error =
            world.connection.put(&["batches", "x"], &once(), stream_of(sent)).await.unwrap_err();
        assert_eq!(error.code(), Code::MalformedData, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
    let header = messages(0, 0)[0].header.clone();
    let undescribed = FlightData { data_header: header, ..FlightData::default() };
    let status = world.raw().await.do_put(stream::iter([undescribed.clone()])).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::InvalidArgument);

    // Some clients send the descriptor alone first.
    let path = vec!["batches".to_owned(), "alone".to_owned()];
    let alone = FlightData {
        flight_descriptor: Some(FlightDescriptor { r#type: 1, path, cmd: Bytes::new() }),
        ..FlightData::default()
    };
    let sent = stream::iter([alone, undescribed]);
    world.raw().await.do_put(sent).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(world.memory.streams.lock().unwrap()["alone"], messages(0, 0));
}

#[tokio::test]
async fn an_error_within_a_stream_ends_it() {
    let world = World::new().await;
    let mut got = world.connection.get("batches/late-fail", &once()).await.unwrap();
    assert!(got.next().await.unwrap().is_ok());
    let error = got.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    assert!(error.message().ends_with("checksum of message 1 is wrong"), "{error}");
    assert!(got.next().await.is_none());
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let world = World::new().await;
    let early = world.connection.get("batches/panic", &once()).await.err().unwrap();
    // gRPC may lose what it had not sent yet, but not the end.
    let stream = world.connection.get("batches/panic-later", &once()).await.unwrap();
    let late = stream.try_collect::<Vec<_>>().await.unwrap_err();
    let put = world
        .connection
        .put(&["batches", "panic"], &once(), stream_of(messages(1, 10)))
        .await
        .unwrap_err();
    for (error, method) in [(early, "DoGet"), (late, "DoGet"), (put, "DoPut")] {
        assert_eq!(error.code(), Code::Internal);
        assert!(error.message().contains(&format!("the handler of {method} panicked")), "{error}");
        assert!(!error.message().contains("asked to"), "inner texts stay in the log: {error}");
    }
    assert_eq!(world.metric("sheaf_flight_panics_total"), 3);
    world.connection.action("HealthCheck", Bytes::new(), &once()).await.unwrap();
}

#[tokio::test]
async fn reads_are_retried_and_actions_only_when_idempotent() {
    let world = World::new().await;
    let got = world.connection.get("batches/flaky", &CallOptions::default()).await.unwrap();
    assert_eq!(got.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert_eq!(world.memory.asked.load(Ordering::SeqCst), 3);

    let plain = CallOptions::default();
    let error = world.connection.action("Flaky", Bytes::new(), &plain).await.unwrap_err();
    assert_eq!((error.code(), world.echo.calls.load(Ordering::SeqCst)), (Code::Unavailable, 1));
    let error =
        world.connection.action("Flaky", Bytes::new(), &plain.idempotent()).await.unwrap_err();
    assert_eq!(world.echo.calls.load(Ordering::SeqCst), 5);
    assert_eq!(error.disposition(), Disposition::Exhausted);
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_names_the_target() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("grpc://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = connect(&uri).info(&["batches", "x"], &once()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().starts_with(&uri), "{error}");
    assert!(error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("grpc://{}", listener.local_addr().unwrap());
    let short = once().deadline(Duration::from_millis(30));
    let error = connect(&uri).info(&["batches", "x"], &short).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
}

#[test]
fn a_router_that_contradicts_itself_is_not_built() {
    let memory = Memory::new("batches");
    let error = FlightRouter::builder()
        .handler("batches", memory.clone())
        .handler("batches", memory.clone())
        .handler("Not/This", memory)
        .actions(std::sync::Arc::new(Echo::default()))
        .actions(std::sync::Arc::new(Echo::default()))
        .build()
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for part in ["\"batches\" has two", "\"Not/This\"", "\"Echo\" is there twice"] {
        assert!(error.message().contains(part), "{error}");
    }
}
