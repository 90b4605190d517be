//! The end of a server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::{CallOptions, Limits, PEER_HEADER, ServerHandle};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::guarded::Guarded;
use crate::support::{World, connect, messages, stream_of, until};

fn once() -> CallOptions {
    CallOptions::default().retry(RetryPolicy::none())
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn calls_under_way_end_and_new_ones_are_refused() {
    let world = World::new().await;
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let connection = world.connection.clone();
            let put = async move {
                connection.put(&["batches", "gate"], &once(), stream_of(messages(3, 1_000))).await
            };
            tokio::spawn(put)
        })
        .collect();
    until("all puts wait", || world.memory.waiting.load(Ordering::SeqCst) == 8).await;

    let mut health = HealthClient::new(world.channel().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let World { memory, handle, connection, .. } = world;
    let uri = handle.uri();
    let drain = tokio::spawn(handle.drain(LONG));
    let told = watched.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    // Health is told first; the door closes right after.
    let refused = async {
        loop {
            match connection.actions(&once()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    };
    let refused = tokio::time::timeout(LONG, refused).await.unwrap();
    assert_eq!(refused.code(), Code::Draining, "{refused}");
    assert!(refused.retry_after().is_some());
    let checked = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::NotServing);

    memory.gate.add_permits(8);
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert!(drain.await.unwrap().cut.is_empty());
    let gone = connect(&uri).actions(&once()).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_not_over_in_time_is_cut_and_named() {
    let world = World::new().await;
    let mut stream = world.connection.get("batches/endless", &once()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let connection = world.connection.clone();
    let put = tokio::spawn(async move {
        connection.put(&["batches", "gate"], &once(), stream_of(messages(1, 10))).await
    });
    until("the put waits", || world.memory.waiting.load(Ordering::SeqCst) == 1).await;
    let World { handle, memory, .. } = world;
    let reader = tokio::spawn(async move { stream.try_for_each(|_| async { Ok(()) }).await });
    let drained = handle.drain(Duration::from_millis(20)).await;
    let mut cut: Vec<_> = drained.cut.iter().map(|call| call.method.as_str()).collect();
    cut.sort_unstable();
    assert_eq!(cut, ["DoGet", "DoPut"]);
    assert!(drained.cut.iter().all(|call| call.peer.is_some()));
    assert_eq!(reader.await.unwrap().unwrap_err().code(), Code::Draining);
    assert_eq!(put.await.unwrap().unwrap_err().code(), Code::Draining);
    assert!(memory.streams.lock().unwrap().is_empty());
}

/// Wherever a stream is cut, also within a message, its reader is told why.
#[tokio::test]
async fn a_stream_of_large_messages_that_is_cut_says_why() {
    for read in 1..8 {
        let world = World::new().await;
        let mut stream = world.connection.get("batches/endless-large", &once()).await.unwrap();
        for _ in 0..read {
            stream.next().await.unwrap().unwrap();
        }
        let drained = tokio::spawn(world.handle.drain(Duration::ZERO));
        let error = stream.try_for_each(|_| async { Ok(()) }).await.unwrap_err();
        assert_eq!(error.code(), Code::Draining, "after {read}: {error}");
        assert_eq!(drained.await.unwrap().cut.len(), 1);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let world = World::new().await;
    let mut stream = world.connection.get("batches/endless", &once()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    // The stream is kept, and never read again.
    let drained = tokio::time::timeout(LONG, world.handle.drain(Duration::ZERO)).await.unwrap();
    assert_eq!(drained.cut.len(), 1);
    drop(stream);
}

#[tokio::test]
async fn a_dropped_handle_closes_everything() {
    let world = World::new().await;
    let mut stream = world.connection.get("batches/endless", &once()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let (handle, uri): (ServerHandle, String) = {
        let uri = world.handle.uri();
        (world.handle, uri)
    };
    drop(handle);
    let error = stream.try_for_each(|_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let closed = async {
        while connect(&uri).actions(&once()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, closed).await.unwrap();
}

#[tokio::test]
async fn calls_of_other_servers_are_taken_while_it_drains_and_not_waited_for() {
    for has_peers in [true, false] {
        let clock = SystemClock::shared();
        let limits = Limits { max_calls: 1, ..Limits::default() };
        let more = |router: sheaf_flight::RouterBuilder| match has_peers {
            true => router.peers("raft"),
            false => router,
        };
        let world = World::build(clock, limits, more, |server| server).await;
        let peer = || once().header(PEER_HEADER, "a");
        let mut stream = world.connection.get("batches/endless", &peer()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let listed = world.connection.actions(&once()).await;
        assert_eq!(listed.is_ok(), has_peers, "the stream counts among calls: {listed:?}");
        let World { handle, connection, memory, .. } = world;
        if !has_peers {
            // It is one of a client.
            let drained = handle.drain(Duration::from_millis(20)).await;
            assert_eq!(drained.cut.len(), 1);
            continue;
        }
        let putting = connection.clone();
        let put = tokio::spawn(async move {
            putting.put(&["batches", "gate"], &once(), stream_of(messages(1, 10))).await
        });
        until("the put waits", || memory.waiting.load(Ordering::SeqCst) == 1).await;
        let drain = tokio::spawn(handle.drain(LONG));
        let draining = async {
            while connection.actions(&once()).await.err().map(|error| error.code())
                != Some(Code::Draining)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, draining).await.unwrap();
        connection.action("Echo", "a".into(), &peer()).await.unwrap();
        memory.gate.add_permits(1);
        put.await.unwrap().unwrap();
        assert!(drain.await.unwrap().cut.is_empty(), "the stream was not waited for");
    }
}

#[tokio::test]
async fn who_only_says_to_be_another_server_counts_as_a_client() {
    let limits = Limits { max_calls: 1, ..Limits::default() };
    let lines = [("node", "allow=raft:w,batches:r"), ("reader", "allow=batches:r")];
    let server = Guarded::with(&lines, false, limits).await;
    let peer = || once().header(PEER_HEADER, "a");
    for (name, is_apart) in [("node", true), ("reader", false)] {
        let mut stream = server.ours(name).get("batches/endless", &peer()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let listed = server.ours("reader").actions(&once()).await;
        assert_eq!(listed.is_ok(), is_apart, "{name}: {listed:?}");
        drop(stream);
        let over = async || {
            while server.metric("sheaf_flight_active_calls") > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, over()).await.unwrap();
    }
}
