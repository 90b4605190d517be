//! What a node answers: the other nodes, and clients.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_raft::network::{Broken, Refusal, Topic};
use sheaf_raft::replica::Replica as _;
use sheaf_raft_transport::{Engine, Error, NodeId, Packet, PacketStream};
use sheaf_retry::{Code, Retryable as _};

use super::Node;
use super::links::{kind, message, packet};

/// Streams of clients: a key and a value to put, or a key to read.
pub(super) const REQUESTS: &str = "requests";

/// Requests of a stream that are under way.
const UNDER_WAY: usize = 4_096;

pub(super) struct Answers(pub(super) Node);

#[async_trait]
impl Engine for Answers {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("raft.vote.v1", "asks for a vote"),
            ("raft.pre-vote.v1", "asks whether a vote would be given"),
            ("raft.transfer.v1", "hands the lead over"),
            ("raft.read-index.v1", "asks what a read waits for"),
            ("raft.propose.v1", "passes a command on"),
            ("raft.state.v1", "asks what a node has"),
        ]
    }

    async fn call(&self, from: NodeId, name: &str, request: Packet) -> Result<Packet, Error> {
        let topic = topic(name)?;
        let answer = self.0.service().call(from, topic, message(request)).await;
        answer.map(packet).map_err(refused)
    }

    async fn stream(
        &self,
        from: NodeId,
        name: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        if name == REQUESTS {
            let node = self.0.clone();
            let answers = requests.map(move |request| answer(node.clone(), request));
            return Ok(answers.buffered(UNDER_WAY).boxed());
        }
        let topic = topic(name)?;
        let requests = requests.map(move |request| {
            let cut = |error: Error| Broken::Cut { node: from, problem: error.to_string() };
            request.map(message).map_err(cut)
        });
        let answers = self.0.service().stream(from, topic, requests.boxed());
        Ok(answers.map(|answer| answer.map(packet).map_err(refused)).boxed())
    }
}

fn topic(name: &str) -> Result<Topic, Error> {
    let found = Topic::ALL.into_iter().find(|topic| kind(*topic) == name);
    found.ok_or_else(|| Error::engine(Code::Unimplemented, format!("there is no {name:?} here")))
}

fn refused(refusal: Refusal) -> Error {
    Error::engine(refusal.code, refusal.problem)
}

/// A put where there is a value; its answer is when it is applied here.
async fn answer(node: Node, request: Result<Packet, Error>) -> Result<Packet, Error> {
    let Packet { meta: key, payloads } = request?;
    let failed = |error: sheaf_raft::replica::Error| Error::engine(error.code(), error.to_string());
    if let Some(value) = payloads.first() {
        let command = [&key[..], value].concat();
        return node.propose(command.into()).await.map(Packet::of).map_err(failed);
    }
    node.read_barrier().await.map_err(failed)?;
    let mut found = false;
    node.with_machine(&mut |values| found = values.has(&key));
    Ok(Packet::of(Bytes::from_static(if found { b"+" } else { b"-" })))
}
