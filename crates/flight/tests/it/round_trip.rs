//! What goes in comes out.

use std::sync::Arc;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{FlightDescriptor, HandshakeRequest, Ticket};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::{CallOptions, Message, invalid};
use sheaf_retry::{Code, Retryable as _};

use crate::support::{World, messages, stream_of, until};

fn options() -> CallOptions {
    CallOptions::default()
}

#[tokio::test]
async fn streams_of_any_length_come_back_bit_for_bit() {
    let world = World::new().await;
    let mut with_metadata = messages(3, 1_000);
    with_metadata[1].app_metadata = Bytes::from_static(b"one");
    let only_metadata =
        Message { app_metadata: Bytes::from_static(b"alone"), ..Message::default() };
    with_metadata.insert(2, only_metadata);
    for (id, sent) in [
        ("empty", messages(0, 0)),
        ("several", messages(5, 10_000)),
        ("large", messages(1, 3_000_000)),
        ("metadata", with_metadata),
    ] {
        let path = ["batches", id];
        let messages = stream_of(sent.clone());
        let answer = world.connection.put(&path, &options(), messages).await.unwrap();
        assert_eq!(answer, format!("{{\"messages\":{}}}", sent.len()), "{id}");
        let got = world.connection.get(&format!("batches/{id}"), &options()).await.unwrap();
        assert_eq!(got.try_collect::<Vec<_>>().await.unwrap(), sent, "{id}");
    }
    let bytes = |name: &str| world.metric(name);
    assert_eq!(bytes("sheaf_flight_received_bytes_total"), bytes("sheaf_flight_sent_bytes_total"));
    assert!(bytes("sheaf_flight_received_bytes_total") > 24_000_000);
    assert_eq!(bytes("sheaf_flight_requests_total{method=\"DoPut\",code=\"ok\"}"), 4);
}

#[tokio::test]
async fn a_body_in_pieces_arrives_whole() {
    let world = World::new().await;
    let sent = messages(1, 1_000);
    let mut pieces = sent.clone();
    let body = pieces[1].contiguous_body();
    pieces[1].body = vec![body.slice(..100), body.slice(100..4_000), body.slice(4_000..)];
    world.connection.put(&["batches", "p"], &options(), stream_of(pieces)).await.unwrap();
    assert_eq!(world.memory.streams.lock().unwrap()["p"], sent);
}

#[tokio::test]
async fn a_put_whose_source_fails_leaves_nothing_behind() {
    let world = World::new().await;
    let source = stream::iter(messages(2, 10).into_iter().map(Ok))
        .chain(stream::once(async { Err(invalid("line 7 of the file is no number")) }));
    let error =
        world.connection.put(&["batches", "x"], &options(), source.boxed()).await.unwrap_err();
    assert_eq!(error.message(), "line 7 of the file is no number");
    until("the call is over at the server", || world.metric("sheaf_flight_active_calls") == 0)
        .await;
    assert!(world.memory.streams.lock().unwrap().is_empty());
}

/// A server that waits for the next message when the client goes away has not
/// seen the end.
#[tokio::test]
async fn a_stream_that_is_broken_off_is_no_whole_one() {
    let world = Arc::new(World::new().await);
    let sent = messages(2, 10);
    let bytes: usize = sent.iter().map(Message::len).sum();
    let seen = Arc::clone(&world);
    let source = stream::iter(sent.into_iter().map(Ok)).chain(stream::once(async move {
        let all = || seen.metric("sheaf_flight_received_bytes_total") >= bytes as u64;
        until("the server has it all", all).await;
        Err(invalid("enough"))
    }));
    let error =
        world.connection.put(&["batches", "x"], &options(), source.boxed()).await.unwrap_err();
    assert_eq!(error.message(), "enough");
    until("the call is over", || world.metric("sheaf_flight_active_calls") == 0).await;
    assert!(world.memory.streams.lock().unwrap().is_empty());
}

#[tokio::test]
async fn entries_are_listed_and_described() {
    let world = World::new().await;
    for id in ["a1", "a2", "b1"] {
        world
            .connection
            .put(&["batches", id], &options(), stream_of(messages(1, 10)))
            .await
            .unwrap();
    }
    let listed = world.connection.list(Bytes::from_static(b"a"), &options()).await.unwrap();
    let paths: Vec<_> = listed.map_ok(|entry| entry.path).try_collect().await.unwrap();
    assert_eq!(paths, [["batches", "a1"], ["batches", "a2"]]);
    let entry = world.connection.info(&["batches", "b1"], &options()).await.unwrap();
    assert_eq!(entry.schema, messages(0, 0)[0].header);
    assert_eq!(entry.endpoints[0].ticket, "batches/b1");
    assert!(entry.ordered && entry.endpoints[0].expires_at_micros.is_some());
}

#[tokio::test]
async fn a_command_is_an_id_and_polling_is_over_at_once() {
    let world = World::new().await;
    world.connection.put(&["batches", "c"], &options(), stream_of(messages(1, 10))).await.unwrap();
    let command = FlightDescriptor {
        r#type: DescriptorType::Cmd.into(),
        cmd: Bytes::from_static(b"c"),
        path: Vec::new(),
    };
    let mut raw = world.raw().await;
    let info = raw.get_flight_info(command.clone()).await.unwrap().into_inner();
    let schema = arrow_schema::Schema::try_from(info.clone()).unwrap();
    assert_eq!(schema.field(0).name(), "n");
    let poll = raw.poll_flight_info(command.clone()).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_none() && poll.progress == Some(1.0));
    assert_eq!(poll.info.unwrap(), info);
    let result = raw.get_schema(command).await.unwrap().into_inner();
    assert_eq!(result.schema, info.schema);
    let ticket: Ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(raw.do_get(ticket).await.unwrap().into_inner().count().await, 2);
}

#[tokio::test]
async fn actions_and_exchange_and_handshake_answer() {
    let world = World::new().await;
    let body = Bytes::from_static(b"ab");
    let echoed = world.connection.action("Echo", body.clone(), &options()).await.unwrap();
    assert_eq!(echoed, [body.clone(), body]);
    let with_header = options().header("x-test", "seen");
    let told = world.connection.action("Header", Bytes::new(), &with_header).await.unwrap();
    assert_eq!(told, [Bytes::from_static(b"seen")]);
    let actions = world.connection.actions(&options()).await.unwrap();
    let names: Vec<&str> = actions.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"Echo") && names.contains(&"HealthCheck"));

    let sent = messages(3, 10);
    let conversation =
        world.connection.exchange(&["batches"], &options(), stream_of(sent.clone())).await.unwrap();
    assert_eq!(conversation.try_collect::<Vec<_>>().await.unwrap(), sent);

    let hello = HandshakeRequest { protocol_version: 1, payload: Bytes::from_static(b"hello") };
    let mut raw = world.raw().await;
    let mut answers = raw.handshake(stream::iter([hello])).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().payload, "hello");
}

#[tokio::test]
async fn an_exchange_whose_source_fails_says_so() {
    let world = World::new().await;
    let source = stream::iter(messages(1, 10).into_iter().map(Ok))
        .chain(stream::once(async { Err(invalid("broken source")) }));
    let mut answers =
        match world.connection.exchange(&["batches"], &options(), source.boxed()).await {
            Ok(answers) => answers,
            Err(error) => {
                assert_eq!(error.message(), "broken source");
                return;
            }
        };
    let failed = loop {
        match answers.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((failed.code(), failed.message()), (Code::InvalidArgument, "broken source"));
    assert!(answers.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_one_connection() {
    let world = World::new().await;
    let sent = messages(4, 20_000);
    let calls = (0..64).map(|number| {
        let (connection, sent) = (world.connection.clone(), sent.clone());
        tokio::spawn(async move {
            let id = format!("s{number}");
            connection.put(&["batches", &id], &options(), stream_of(sent.clone())).await?;
            let got = connection.get(&format!("batches/{id}"), &options()).await?;
            assert_eq!(got.try_collect::<Vec<_>>().await?, sent, "{id}");
            Ok::<_, sheaf_flight::Error>(())
        })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(world.metric("sheaf_flight_connections"), 1);
    until("all calls are over", || world.metric("sheaf_flight_active_calls") == 0).await;
}

/// Callers spawn calls: their futures must be `Send`.
#[tokio::test]
async fn calls_can_be_spawned() {
    let world = World::new().await;
    let connection = world.connection.clone();
    let task = tokio::spawn(async move {
        connection.put(&["batches", "s"], &options(), stream_of(messages(1, 1))).await?;
        connection.info(&["batches", "s"], &options()).await?;
        connection.list(Bytes::new(), &options()).await?.try_collect::<Vec<_>>().await?;
        connection.get("batches/s", &options()).await?.try_collect::<Vec<_>>().await?;
        connection.action("Echo", Bytes::new(), &options()).await
    });
    assert_eq!(task.await.unwrap().unwrap().len(), 2);
}

/// A conversation whose reader goes away ends at the server too, though the
/// client's side of it would have gone on for ever.
#[tokio::test]
async fn a_conversation_that_nobody_reads_ends() {
    let world = World::new().await;
    let sent = stream::iter(messages(1, 10).into_iter().map(Ok)).chain(stream::pending()).boxed();
    let mut answers = world.connection.exchange(&["batches", "e"], &options(), sent).await.unwrap();
    answers.next().await.unwrap().unwrap();
    assert_eq!(world.metric("sheaf_flight_active_calls"), 1);
    drop(answers);
    until("the call is over", || world.metric("sheaf_flight_active_calls") == 0).await;

    let failing = stream::iter(messages(1, 10).into_iter().map(Ok))
        .chain(stream::once(async { Err(invalid("line 7 is no number")) }));
    // It turns up before the first answer or behind it.
    let path = ["batches", "e"];
    let error = match world.connection.exchange(&path, &options(), failing.boxed()).await {
        Ok(answers) => answers.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.message(), "line 7 is no number");
    until("the call is over", || world.metric("sheaf_flight_active_calls") == 0).await;
}
