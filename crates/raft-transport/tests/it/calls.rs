//! Calls, messages and bulk transfers.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sheaf_raft_transport::{Error, Lane, Packet, RaftTransport as _};
use sheaf_retry::{Code, Retryable as _};

use crate::support::{PATIENCE, arrow_messages, config, packet, pair, pair_of};

#[tokio::test]
async fn a_call_is_answered_by_the_engine_and_keeps_its_bytes() {
    let (one, _two) = pair().await;
    let sent = Packet { payloads: vec![Bytes::new(), vec![7; 100_000].into()], ..packet(1, 0) };
    let reply = one.transport.call(2, Lane::Control, "vote", sent.clone(), PATIENCE).await.unwrap();
    assert_eq!(reply, sent);
}

#[tokio::test]
async fn what_the_engine_says_comes_with_its_code() {
    let (one, _two) = pair().await;
    let call = one.transport.call(2, Lane::Control, "fail", packet(1, 1), PATIENCE);
    let error = call.await.unwrap_err();
    assert_eq!(error.code(), Code::StaleFence);
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("not you, 1"), "{text}");
    let call = one.transport.call(2, Lane::Control, "other", packet(1, 1), PATIENCE);
    assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_message_is_received_with_its_sender_and_replied_to() {
    let (one, two) = pair().await;
    let received = async {
        let message = two.transport.receive_message().await.unwrap();
        let text = format!("{} {}", message.from, message.payload.len());
        assert!(message.reply(text));
    };
    let message = Bytes::from(vec![1; 1 << 20]);
    let (reply, ()) = tokio::join!(one.transport.send_message(2, message), received);
    assert_eq!(reply.unwrap(), "1 1048576");
    assert_eq!((one.counter("messages_sent"), one.counter("messages_received")), (1, 1));
    assert_eq!((two.counter("messages_received"), two.counter("messages_sent")), (1, 1));
}

#[tokio::test]
async fn a_message_that_finds_the_inbox_full_is_refused_and_counted() {
    let two = sheaf_raft_transport::Config { inbox_messages: 1, ..config(2) };
    let (one, two) = pair_of(config(1), two).await;
    let waiting = one.transport.clone();
    let first = tokio::spawn(async move { waiting.send_message(2, "first".into()).await });
    let full = async || one.transport.send_message(2, "more".into()).await.unwrap_err();
    sheaf_testkit::wait_until_async(PATIENCE, "the first message", || async {
        two.counter("messages_received") >= 1
    })
    .await
    .unwrap();
    let error = full().await;
    assert_eq!(error.code(), Code::Overloaded);
    assert_eq!(two.counter("inbox_refused"), 1);
    assert!(two.transport.receive_message().await.unwrap().reply("now"));
    assert_eq!(first.await.unwrap().unwrap(), "now");
}

#[tokio::test]
async fn an_oversized_message_is_refused_before_it_is_sent() {
    let (one, two) = pair().await;
    let error = one.transport.send_message(2, vec![0; (1 << 20) + 1].into()).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { actual: 1_048_577, limit: 1_048_576, .. }),
        "{error}"
    );
    let many = Packet { payloads: vec![Bytes::new(); 300_000], ..Packet::default() };
    let error = one.transport.call(2, Lane::Data, "vote", many, PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(two.counter("frames_received"), 0);
}

#[tokio::test]
async fn a_reply_that_is_too_long_does_not_say_that_nothing_was_done() {
    let small = sheaf_raft_transport::Config { max_message_bytes: 10_000, ..config(2) };
    let (one, _two) = pair_of(config(1), small).await;
    // A long reply to a short request.
    let error =
        one.transport.call(2, Lane::Data, "long", packet(1, 1), PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("it was done, and its reply cannot be sent"), "{text}");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let (one, _two) = pair().await;
    let soon = Duration::from_millis(50);
    let error = one.transport.call(2, Lane::Control, "held", packet(1, 1), soon).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    // The connection is as good as before.
    assert!(one.transport.call(2, Lane::Control, "vote", packet(1, 1), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_bulk_transfer_is_answered_when_it_is_whole() {
    let (one, two) = pair().await;
    let messages = stream::iter(arrow_messages(20).into_iter().map(Ok)).boxed();
    let answer = one.transport.send_bulk(2, "snapshot", "meta".into(), messages).await.unwrap();
    assert_eq!(answer, "1 meta 21");
    // Broken off by its source, it is nothing.
    let broken = Err(sheaf_flight::invalid("no more"));
    let messages = arrow_messages(3).into_iter().map(Ok).chain([broken]);
    let messages = stream::iter(messages).boxed();
    let error = one.transport.send_bulk(2, "snapshot", "meta".into(), messages).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(two.echo.bulk_messages.load(std::sync::atomic::Ordering::Relaxed), 21);
}

#[tokio::test]
async fn heartbeats_are_answered_while_a_bulk_transfer_stands_still() {
    let (one, two) = pair().await;
    let transport = one.transport.clone();
    let stuck = tokio::spawn(async move {
        let messages = stream::iter(arrow_messages(2_000).into_iter().map(Ok)).boxed();
        transport.send_bulk(2, "held", Bytes::new(), messages).await
    });
    for number in 0..50 {
        let sent = packet(number, 10);
        let reply = one.transport.call(2, Lane::Control, "vote", sent.clone(), PATIENCE).await;
        assert_eq!(reply.unwrap(), sent);
    }
    assert!(!stuck.is_finished());
    two.echo.permits.add_permits(1);
    assert_eq!(stuck.await.unwrap().unwrap(), "1  2001");
}
