//! The fast path and the plain path, ours and that of any gRPC implementation,
//! carry the same bytes.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use proptest::test_runner::{Config, TestRunner};
use sheaf_flight::ipc::{Bounds, Decoded, Decoder, Kind, encode_batches, inspect};
use sheaf_flight::{CallOptions, LocalListener, Message};

use crate::support::{World, connect, stream_of};
use crate::types::{self, Numbers};

/// What is the same however a body is cut.
fn bytes_of(messages: &[Message]) -> Vec<(Bytes, Bytes, Bytes)> {
    let parts =
        |one: &Message| (one.header.clone(), one.app_metadata.clone(), one.contiguous_body());
    messages.iter().map(parts).collect()
}

fn decode(messages: &[Message]) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(Bounds::default());
    let decoded = messages.iter().map(|message| decoder.push(message).unwrap());
    let batches = decoded.filter_map(|decoded| match decoded {
        Decoded::Batch(batch) => Some(batch),
        _ => None,
    });
    batches.collect()
}

/// A put by generated code, of the same messages.
async fn put_raw(world: &World, id: &str, messages: &[Message]) {
    let path = vec!["batches".to_owned(), id.to_owned()];
    let mut descriptor = Some(FlightDescriptor::new_path(path));
    let data: Vec<FlightData> = messages
        .iter()
        .map(|message| FlightData {
            flight_descriptor: descriptor.take(),
            data_header: message.header.clone(),
            app_metadata: message.app_metadata.clone(),
            data_body: message.contiguous_body(),
        })
        .collect();
    let answers = world.raw().await.do_put(stream::iter(data)).await.unwrap().into_inner();
    answers.try_collect::<Vec<_>>().await.unwrap();
}

/// A get by generated code.
async fn get_raw(world: &World, id: &str) -> Vec<(Bytes, Bytes, Bytes)> {
    let ticket = Ticket { ticket: format!("batches/{id}").into() };
    let data = world.raw().await.do_get(ticket).await.unwrap().into_inner();
    data.map_ok(|one| (one.data_header, one.app_metadata, one.data_body))
        .try_collect()
        .await
        .unwrap()
}

async fn get_ours(world: &World, id: &str) -> Vec<Message> {
    let messages = world.connection.get(&format!("batches/{id}"), &CallOptions::default()).await;
    messages.unwrap().try_collect().await.unwrap()
}

/// What the messages of all cases were.
#[derive(Default)]
struct Seen {
    deltas: usize,
    replaced: usize,
    with_metadata: usize,
}

/// Gives some of the messages metadata, and cuts some.
fn vary(sent: &mut [Message], numbers: &mut Numbers, seen: &mut Seen) {
    let mut known = HashSet::new();
    for message in sent {
        match inspect(&message.header).unwrap().kind {
            Kind::Dictionary { is_delta: true, .. } => seen.deltas += 1,
            Kind::Dictionary { id, .. } if !known.insert(id) => seen.replaced += 1,
            Kind::RecordBatch if numbers.below(4) == 0 => {
                *message = types::with_metadata(message, "batch", &seen.with_metadata.to_string());
                seen.with_metadata += 1;
            }
            _ => {}
        }
        if numbers.below(4) == 0 {
            message.app_metadata = vec![7; numbers.below(300)].into();
        }
        // Cut anywhere, a body is the same.
        if numbers.below(2) == 0 && message.body_len() > 0 {
            let body = message.contiguous_body();
            let at = numbers.below(body.len());
            message.body = vec![body.slice(..at), body.slice(at..)];
        }
    }
}

async fn check(fast: &World, plain: &World, sent: &[Message], batches: &[RecordBatch]) {
    let expected = bytes_of(sent);
    let metadata = |messages: &[Message]| -> Vec<_> {
        messages.iter().map(|message| types::metadata_of(message, "batch")).collect()
    };
    for world in [fast, plain] {
        let (path, options) = (["batches", "ours"], CallOptions::default());
        world.connection.put(&path, &options, stream_of(sent.to_vec())).await.unwrap();
        put_raw(world, "raw", sent).await;
        for id in ["ours", "raw"] {
            let kept = world.memory.streams.lock().unwrap()[id].clone();
            assert!(bytes_of(&kept) == expected, "kept of {id}");
            assert!(get_raw(world, id).await == expected, "got raw of {id}");
            let got = get_ours(world, id).await;
            assert!(bytes_of(&got) == expected, "got of {id}");
            assert_eq!(decode(&got), batches);
            assert_eq!(metadata(&got), metadata(sent));
        }
    }
}

#[test]
fn every_type_has_the_same_bytes_on_every_path() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (fast, plain) = runtime.block_on(async { (World::new().await, World::plain().await) });
    let schema = types::schema();
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let rows = proptest::collection::vec(0_usize..60, 0..4);
    let strategy = (proptest::prelude::any::<u64>(), rows);
    let seen = RefCell::new(Seen::default());
    let done = runner.run(&strategy, |(seed, rows)| {
        let mut numbers = Numbers(seed);
        let batches: Vec<RecordBatch> =
            rows.iter().map(|rows| types::batch(&schema, *rows, &mut numbers)).collect();
        let mut sent = encode_batches(types::schema(), &batches).unwrap();
        vary(&mut sent, &mut numbers, &mut seen.borrow_mut());
        runtime.block_on(check(&fast, &plain, &sent, &batches));
        Ok(())
    });
    done.unwrap();
    let Seen { deltas, replaced, with_metadata } = seen.into_inner();
    assert!(deltas > 0 && replaced > 0 && with_metadata > 0, "{deltas} {replaced} {with_metadata}");
}

/// The counters say what was done with the bytes of a large stream.
#[tokio::test]
async fn large_bodies_are_sent_uncopied_and_received_with_one_copy() {
    let world = World::new().await;
    let sent = crate::support::messages(4, 500_000);
    let bytes: u64 = sent.iter().map(|message| message.len() as u64).sum();
    world
        .connection
        .put(&["batches", "b"], &CallOptions::default(), stream_of(sent.clone()))
        .await
        .unwrap();
    let got = get_ours(&world, "b").await;
    assert_eq!(bytes_of(&got), bytes_of(&sent));
    assert!(got[1].body.iter().all(|piece| piece.as_ptr().addr().is_multiple_of(64)));
    let metric = |what: &str, direction: &str| {
        world.metric(&format!("sheaf_flight_{what}_bytes_total{{direction=\"{direction}\"}}"))
    };
    assert!(metric("wrapped", "sent") > bytes * 999 / 1_000);
    assert!(metric("copied", "sent") < bytes / 1_000);
    let received = metric("copied", "received") + metric("wrapped", "received");
    assert!(received.abs_diff(bytes) < bytes / 1_000, "{received} of {bytes}");
}

#[tokio::test]
async fn a_socket_in_the_file_system_serves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.sock");
    let listener = LocalListener::bind(&path, "--flight-uds").unwrap();
    let world = World::local(listener).await;
    let connection = connect(&format!("grpc+unix://{}", path.display()));
    let sent = crate::support::messages(3, 100_000);
    connection
        .put(&["batches", "u"], &CallOptions::default(), stream_of(sent.clone()))
        .await
        .unwrap();
    let got = connection.get("batches/u", &CallOptions::default()).await.unwrap();
    let got: Vec<Message> = got.try_collect().await.unwrap();
    assert_eq!(bytes_of(&got), bytes_of(&sent));
    assert_eq!(bytes_of(&get_ours(&world, "u").await), bytes_of(&sent));
    let world = Arc::new(world);
    drop(connection);
    let handle = Arc::into_inner(world).unwrap().handle;
    handle.drain(std::time::Duration::from_secs(5)).await;
    assert!(!path.exists(), "the socket goes with its server");
    let error = connect(&format!("grpc+unix://{}", path.display()))
        .actions(&CallOptions::default())
        .await
        .unwrap_err();
    assert_eq!(sheaf_retry::Retryable::code(&error), sheaf_retry::Code::Unavailable, "{error}");
}
