//! Streams: order, windows, batches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt as _;
use sheaf_raft_transport::{Compression, Config, Error, Lane, Packet, WindowConfig};
use sheaf_retry::{Code, Retryable as _};

use crate::support::{PATIENCE, config, packet, pair, pair_of};

#[tokio::test]
async fn replies_come_in_the_order_of_their_requests() {
    let (one, two) = pair().await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    let sending = async {
        for number in 0..5_000 {
            sender.send(packet(number, 100)).await.unwrap();
        }
        drop(sender);
    };
    let receiving = async {
        for number in 0..5_000 {
            assert_eq!(replies.next().await.unwrap().unwrap(), packet(number, 100));
        }
        assert!(replies.next().await.is_none());
    };
    tokio::join!(sending, receiving);
    assert_eq!(two.echo.taken.load(Ordering::Relaxed), 5_000);
    // Those that wait go together.
    let (frames, messages) = (one.counter("frames_sent"), one.counter("messages_sent"));
    assert_eq!(messages, 5_000);
    assert!(frames < messages / 2, "{frames} frames for {messages} messages");
}

#[tokio::test]
async fn a_full_window_withholds_requests_until_one_is_answered() {
    let window = WindowConfig { requests: 2, max_requests: 2, ..WindowConfig::default() };
    let (one, two) = pair_of(Config { window, ..config(1) }, config(2)).await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "held").await.unwrap();
    sender.send(packet(0, 10)).await.unwrap();
    sender.send(packet(1, 10)).await.unwrap();
    {
        let mut third = Box::pin(sender.send(packet(2, 10)));
        assert!(third.as_mut().now_or_never().is_none());
        two.echo.permits.add_permits(1);
        assert_eq!(replies.next().await.unwrap().unwrap(), packet(0, 10));
        third.await.unwrap();
    }
    two.echo.permits.add_permits(2);
    assert_eq!(replies.next().await.unwrap().unwrap(), packet(1, 10));
    assert_eq!(replies.next().await.unwrap().unwrap(), packet(2, 10));
}

#[tokio::test]
async fn large_messages_pass_and_larger_ones_are_refused() {
    let (one, _two) = pair().await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    let large = packet(3, (1 << 20) - 8);
    sender.send(large.clone()).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), large);
    let error = sender.send(packet(3, 1 << 20)).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    // The stream goes on.
    sender.send(Packet::of("small")).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap().meta, "small");
}

#[tokio::test]
async fn what_gets_smaller_is_compressed_on_the_data_lane_only() {
    let (one, two) = pair().await;
    for (lane, compressed) in [(Lane::Control, false), (Lane::Data, true)] {
        let (mut sender, mut replies) = one.transport.open_stream(2, lane, "echo").await.unwrap();
        sender.send(packet(1, 100_000)).await.unwrap();
        assert_eq!(replies.next().await.unwrap().unwrap(), packet(1, 100_000));
        // Requests, and replies.
        for node in [&one, &two] {
            assert_eq!(node.counter("compressed_from_bytes") > 0, compressed, "{lane:?}");
        }
    }
    let (from, to) = (one.counter("compressed_from_bytes"), one.counter("compressed_to_bytes"));
    assert!(from >= 100_000 && to < from / 10, "{from} {to}");
    let off = Config { compression: Compression::Off, ..config(1) };
    let (one, _two) = pair_of(off, config(2)).await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    sender.send(packet(1, 100_000)).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), packet(1, 100_000));
    assert_eq!(one.counter("compressed_from_bytes"), 0);
}

#[tokio::test]
async fn a_stream_that_the_engine_refuses_says_why_when_it_is_opened() {
    let (one, _two) = pair().await;
    let error = one.transport.open_stream(2, Lane::Data, "nothing").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn more_replies_than_requests_end_a_stream() {
    let (one, _two) = pair().await;
    let (mut sender, mut replies) =
        one.transport.open_stream(2, Lane::Data, "twice").await.unwrap();
    sender.send(packet(1, 1)).await.unwrap();
    assert!(replies.next().await.unwrap().is_ok());
    let error = replies.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Frame { .. }), "{error}");
    assert!(replies.next().await.is_none());
    assert!(matches!(sender.send(packet(1, 1)).await, Err(Error::Ended { peer: 2 })));
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_its_room_back() {
    let (one, _two) = pair().await;
    for _ in 0..3 {
        let (mut sender, replies) = one.transport.open_stream(2, Lane::Data, "held").await.unwrap();
        sender.send(packet(1, 10)).await.unwrap();
        sender.send(packet(1, 10)).await.unwrap();
        drop(replies);
        let ended = async { while sender.send(packet(1, 10)).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_is_never_answered_ends_its_stream() {
    let one = Config { reply_timeout: Duration::from_millis(50), ..config(1) };
    let (one, _two) = pair_of(one, config(2)).await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "held").await.unwrap();
    sender.send(packet(1, 10)).await.unwrap();
    let error = replies.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}
