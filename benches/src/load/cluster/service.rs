//! What a node answers: the other nodes, and clients.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_raft::network::flight;
use sheaf_raft::replica::Replica as _;
use sheaf_raft_transport::{Engine, Error, NodeId, Packet, PacketStream};
use sheaf_retry::Retryable as _;

use super::Node;

/// Streams of clients: a key and a value to put, or a key to read.
pub(super) const REQUESTS: &str = "requests";

/// Requests of a stream that are under way.
const UNDER_WAY: usize = 4_096;

pub(super) struct Answers {
    node: Node,
    /// What nodes ask of each other.
    nodes: Arc<dyn Engine>,
}

impl Answers {
    pub(super) fn new(node: Node) -> Self {
        Answers { nodes: flight::engine(node.service()), node }
    }
}

#[async_trait]
impl Engine for Answers {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        self.nodes.actions()
    }

    async fn call(&self, from: NodeId, kind: &str, request: Packet) -> Result<Packet, Error> {
        self.nodes.call(from, kind, request).await
    }

    async fn stream(
        &self,
        from: NodeId,
        kind: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        if kind != REQUESTS {
            return self.nodes.stream(from, kind, requests).await;
        }
        let node = self.node.clone();
        let answers = requests.map(move |request| answer(node.clone(), request));
        Ok(answers.buffered(UNDER_WAY).boxed())
    }
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
