//! Sessions against a follower that answers when it is told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::BoxStream;
use openraft::network::RPCOption;
use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, RaftNetworkFactory};
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::client::Peers;
use super::super::wire::{self, Appended};
use super::*;
use crate::config::RaftClusterConfig;
use crate::network::{Links, Manifest};
use crate::types::{Command, Entry, Member, NodeId, SnapshotMeta};

/// A follower: what it is sent, and what it says.
struct Follower {
    answers: Mutex<Option<mpsc::Receiver<Result<Message, Broken>>>>,
    sent: mpsc::Sender<Message>,
}

#[async_trait]
impl Links for Follower {
    async fn call(
        &self,
        node: NodeId,
        _: &Member,
        _: Lane,
        _: Topic,
        _: Message,
    ) -> Result<Message, Broken> {
        Err(Broken::Unreachable { node, problem: "it only has streams".to_owned() })
    }

    async fn stream(
        &self,
        _: NodeId,
        _: &Member,
        _: Lane,
        _: Topic,
        mut requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        let sent = self.sent.clone();
        drop(tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if sent.send(request).await.is_err() {
                    break;
                }
            }
        }));
        let answers = self.answers.lock().unwrap().take().unwrap();
        Ok(ReceiverStream::new(answers).boxed())
    }
}

/// No snapshots.
struct Nothing;

#[async_trait]
impl Transit for Nothing {
    type Data = ();
    type Incoming = ();

    fn manifest(&self, meta: &SnapshotMeta, (): &()) -> Manifest {
        Manifest { meta: meta.clone(), size_bytes: 0, checksum: 0 }
    }

    async fn read(&self, (): &(), _: u64, _: usize) -> std::io::Result<Bytes> {
        Ok(Bytes::new())
    }

    async fn receive(&self, _: &Manifest) -> std::io::Result<((), u64)> {
        Ok(((), 0))
    }

    async fn write(&self, (): (), _: u64, _: Bytes) -> std::io::Result<()> {
        Ok(())
    }

    async fn finish(&self, (): ()) -> std::io::Result<()> {
        Ok(())
    }
}

type Request = AppendEntriesRequest<Types<TokioRuntime>>;

fn at(index: u64) -> LogId {
    LogId::new_term_index(1, index)
}

fn request(previous: u64, entries: std::ops::Range<u64>) -> Request {
    let entry = |index| Entry {
        log_id: at(index),
        payload: EntryPayload::Normal(Command(Bytes::from_static(b"command"))),
    };
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(at(previous)),
        entries: entries.map(entry).collect(),
        leader_commit: None,
    }
}

/// A session with these requests: what was sent, what to answer, and the peer.
async fn peer() -> (mpsc::Receiver<Message>, mpsc::Sender<Result<Message, Broken>>, Peer<Nothing>) {
    let (sent, requests) = mpsc::channel(8);
    let (say, answers) = mpsc::channel(8);
    let follower = Follower { answers: Mutex::new(Some(answers)), sent };
    let config = RaftClusterConfig::new("test", 1);
    let mut peers = Peers::new(&config, Arc::new(follower), Arc::new(Nothing), Arc::default());
    let member = Member::default();
    let peer = RaftNetworkFactory::<Types<TokioRuntime>>::new_client(&mut peers, 2, &member).await;
    (requests, say, peer)
}

fn answer(sequence: u64, index: u64) -> Result<Message, Broken> {
    Ok(wire::append_reply(sequence, &Appended::Matched(Some(at(index)))))
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(60))
}

#[tokio::test]
async fn an_answer_is_not_credited_to_a_heartbeat_behind_it() {
    let (mut sent, say, mut peer) = peer().await;
    let input = stream::iter([request(9, 10..13), request(12, 0..0)]).chain(stream::pending());
    let session = peer.pipelined::<TokioRuntime, _>(input.boxed(), option());
    let mut results = session.await.unwrap();
    sent.recv().await.unwrap();
    sent.recv().await.unwrap();

    say.send(answer(1, 12)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), results.next()).await;
    assert!(early.is_err(), "it told the engine of an entry before the heartbeat was answered");
    say.send(answer(2, 12)).await.unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), Ok(Some(at(12))));
}

#[tokio::test]
async fn no_request_is_taken_while_the_engine_takes_an_answer_in() {
    let (mut sent, say, mut peer) = peer().await;
    let (more, input) = mpsc::channel(8);
    more.send(request(9, 10..13)).await.unwrap();
    let input = ReceiverStream::new(input);
    let mut results = peer.pipelined::<TokioRuntime, _>(input, option()).await.unwrap();
    sent.recv().await.unwrap();
    say.send(answer(1, 12)).await.unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), Ok(Some(at(12))));

    more.send(request(12, 13..14)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), sent.recv()).await;
    assert!(early.is_err(), "a request went out before the engine came back");
    assert!(results.next().now_or_never().is_none());
    assert!(sent.recv().await.is_some());
}

#[tokio::test]
async fn two_requests_are_on_their_way_and_no_third() {
    let (mut sent, say, mut peer) = peer().await;
    let input = stream::iter((0..3).map(|n| request(9 + n, 10 + n..11 + n)));
    let input = input.chain(stream::pending()).boxed();
    let mut results = peer.pipelined::<TokioRuntime, _>(input, option()).await.unwrap();
    sent.recv().await.unwrap();
    sent.recv().await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(50), sent.recv()).await;
    assert!(third.is_err(), "three requests are on their way");
    say.send(answer(1, 10)).await.unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), Ok(Some(at(10))));
    assert!(results.next().now_or_never().is_none());
    assert!(sent.recv().await.is_some());
}

#[tokio::test]
async fn the_requests_end_with_their_session() {
    let (mut sent, _say, mut peer) = peer().await;
    let (more, input) = mpsc::channel(8);
    more.send(request(9, 10..13)).await.unwrap();
    let input = ReceiverStream::new(input);
    let results = peer.pipelined::<TokioRuntime, _>(input, option()).await.unwrap();
    sent.recv().await.unwrap();
    drop(results);
    // At once, whatever the link does with them.
    assert!(more.is_closed());
}

/// There the engine waits for a while where the node could not be reached before.
#[tokio::test]
async fn a_node_is_not_asked_before_the_engine_has_a_request_for_it() {
    let (_sent, _say, mut peer) = peer().await;
    let session = peer.pipelined::<TokioRuntime, _>(stream::pending::<Request>(), option());
    assert!(session.now_or_never().is_none(), "it opened a stream for nothing");
}
