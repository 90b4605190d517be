//! Peers that go away, come back, or fall silent.

use std::time::Duration;

use bytes::Bytes;
use sheaf_raft_transport::{Config, Error, Lane, RaftTransport as _};
use sheaf_retry::{Code, Retryable as _};
use sheaf_testkit::{Fault, FaultProxy, wait_until_async};

use crate::support::{Node, PATIENCE, config, packet, pair};

async fn works(node: &Node) -> bool {
    let sent = packet(1, 100);
    let call = node.transport.call(2, Lane::Control, "vote", sent.clone(), PATIENCE);
    matches!(call.await, Ok(reply) if reply == sent)
}

async fn until_it_works(node: &Node) {
    wait_until_async(PATIENCE, "an answer", || works(node)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_was_started_again_is_used_again() {
    let (one, two) = pair().await;
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    sender.send(packet(1, 1)).await.unwrap();
    assert!(replies.next().await.unwrap().is_ok());
    assert!(works(&one).await);
    let endpoint = two.endpoint();
    drop(two);
    // The stream says that it is over, with an error.
    let ended = async {
        while sender.send(packet(1, 1)).await.is_ok() {
            if let Some(Err(error)) = replies.next().await {
                return error;
            }
        }
        replies.next().await.unwrap().unwrap_err()
    };
    let error = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    wait_until_async(PATIENCE, "the loss to be seen", || async {
        !works(&one).await && !one.transport.health_status()["peer 2 control"]
    })
    .await
    .unwrap();
    let call = one.transport.call(2, Lane::Control, "vote", packet(1, 1), PATIENCE);
    let error = call.await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.retry_after().unwrap() <= Duration::from_millis(60), "{error:?}");
    let before = one.counter("reconnects");
    let _two = Node::start_at(config(2), &endpoint).await;
    until_it_works(&one).await;
    assert!(one.counter("reconnects") > before);
    assert!(one.transport.health_status()["peer 2 control"]);
    assert!(one.transport.open_stream(2, Lane::Data, "echo").await.is_ok());
}

#[tokio::test]
async fn connecting_goes_on_trying_until_the_peer_is_there() {
    let one = Node::start(config(1)).await;
    let port = sheaf_testkit::free_port().unwrap();
    let endpoint = port.addr().to_string();
    let transport = one.transport.clone();
    let there = endpoint.clone();
    let connecting = tokio::spawn(async move { transport.connect_to_peer(2, vec![there]).await });
    wait_until_async(PATIENCE, "a failed attempt", || async { one.counter("errors") >= 2 })
        .await
        .unwrap();
    port.release();
    let _two = Node::start_at(config(2), &endpoint).await;
    connecting.await.unwrap().unwrap();
    assert!(one.transport.health_status()["peer 2"]);
}

#[tokio::test]
async fn connecting_to_the_wrong_node_fails_at_once_and_says_so() {
    let (one, two) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let error = one.transport.connect_to_peer(3, vec![two.endpoint()]).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("for node 3, this is node 2"), "{text}");
    let other = Node::start(Config { cluster_id: "other".into(), ..config(4) }).await;
    let error = other.transport.connect_to_peer(2, vec![two.endpoint()]).await.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("cluster \"other\""), "{text}");
    assert_eq!(two.transport.metrics().errors("cluster"), 1);
}

#[tokio::test]
async fn another_address_is_used_when_one_fails() {
    let (one, two) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let server = two.transport.local_addr().unwrap();
    let (first, second) = (FaultProxy::start(server).unwrap(), FaultProxy::start(server).unwrap());
    // Answers come later over the second one: it is not preferred.
    second.set(Fault::Delay(Duration::from_millis(20)));
    let endpoints = vec![first.addr().to_string(), second.addr().to_string()];
    one.transport.add_peer(2, endpoints).unwrap();
    until_it_works(&one).await;
    first.set(Fault::Cut);
    until_it_works(&one).await;
    assert!(second.accepted() >= 1);
    assert!(one.transport.open_stream(2, Lane::Data, "echo").await.is_ok());
    assert!(one.transport.health_status()["peer 2"]);
    // And back.
    first.set(Fault::None);
    second.set(Fault::Cut);
    until_it_works(&one).await;
}

#[tokio::test]
async fn the_faster_of_two_addresses_is_preferred() {
    let (one, two) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let server = two.transport.local_addr().unwrap();
    let (slow, fast) = (FaultProxy::start(server).unwrap(), FaultProxy::start(server).unwrap());
    slow.set(Fault::Delay(Duration::from_millis(100)));
    one.transport.add_peer(2, vec![slow.addr().to_string(), fast.addr().to_string()]).unwrap();
    // Both are asked, the first that answers is taken; nothing goes to the slow one.
    for _ in 0..10 {
        assert!(works(&one).await);
    }
    let opened = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    fast.set(Fault::Cut);
    let (_sender, mut replies) = opened;
    let error = tokio::time::timeout(PATIENCE, replies.next()).await.unwrap().unwrap();
    assert_eq!(error.unwrap_err().code(), Code::Unavailable, "the stream went over the fast one");
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_replaced() {
    let quick = Config { connect_timeout: Duration::from_millis(200), ..config(1) };
    let (one, two) = (Node::start(quick).await, Node::start(config(2)).await);
    let proxy = FaultProxy::start(two.transport.local_addr().unwrap()).unwrap();
    one.transport.add_peer(2, vec![proxy.addr().to_string()]).unwrap();
    until_it_works(&one).await;
    // For good: only a new connection helps, and nothing tells that the old one is dead.
    proxy.silence_connections();
    wait_until_async(PATIENCE, "an answer over a new connection", || async {
        let soon = Duration::from_millis(100);
        one.transport.call(2, Lane::Control, "vote", packet(1, 1), soon).await.is_ok()
    })
    .await
    .unwrap();
    assert!(proxy.accepted() >= 2);
}

#[tokio::test]
async fn what_is_under_way_to_a_peer_that_is_disconnected_fails() {
    let (one, two) = pair().await;
    let transport = one.transport.clone();
    let call = tokio::spawn(async move {
        transport.call(2, Lane::Control, "held", packet(1, 1), PATIENCE).await
    });
    let (_sender, mut replies) = one.transport.open_stream(2, Lane::Data, "held").await.unwrap();
    wait_until_async(PATIENCE, "the call", || async { two.counter("messages_received") == 1 })
        .await
        .unwrap();
    one.transport.disconnect_from_peer(2).await.unwrap();
    assert!(matches!(call.await.unwrap(), Err(Error::Ended { peer: 2 })));
    assert!(matches!(replies.next().await, Some(Err(Error::Ended { peer: 2 }))));
    let error = one.transport.send_message(2, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPeer { peer: 2 }));
    assert!(one.transport.disconnect_from_peer(2).await.is_err());
    assert!(!one.transport.health_status().contains_key("peer 2"));
}

#[tokio::test]
async fn a_transport_that_is_shut_down_answers_nobody() {
    let (one, two) = pair().await;
    assert!(works(&one).await);
    assert!(two.transport.health_status()["server"]);
    let waiting = two.transport.clone();
    let waiting = tokio::spawn(async move { waiting.receive_message().await });
    two.transport.shutdown(Duration::from_secs(1)).await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(!two.transport.health_status()["server"]);
    assert!(!works(&one).await);
}
