//! What receives: the consensus engine of this node.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use sheaf_flight::MessageStream;
use sheaf_retry::Code;

use crate::packet::Packet;
use crate::{Error, NodeId};

/// Messages of a stream, in order; after an error there are no more.
pub type PacketStream = BoxStream<'static, Result<Packet, Error>>;

/// A consensus engine as its peers see it.
///
/// 1. `from` is the node that sent it: of this cluster, and, where its certificate
///    is bound, named by it.
/// 2. `kind` is the engine's own word. Of calls there are only those of `actions`.
/// 3. A call or a bulk transfer may be dropped at any await; a call may come twice,
///    since its sender cannot know whether one that failed was done.
/// 4. A stream answers every request with one reply, in order, until it ends. It
///    reads no further ahead than it has to: requests that are not taken are what
///    holds the sender back.
/// 5. An error among the requests means that the stream broke off there. Whatever
///    the engine does then, the stream ends with that error.
/// 6. What an error says goes to the peer, with its code.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Calls that it answers: `raft.KIND.v1`, and what each is for.
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Answers a call of one of its kinds.
    async fn call(&self, from: NodeId, kind: &str, packet: Packet) -> Result<Packet, Error> {
        let _ = packet;
        Err(none("call", from, kind))
    }

    /// Answers the requests of a stream.
    async fn stream(
        &self,
        from: NodeId,
        kind: &str,
        requests: PacketStream,
    ) -> Result<PacketStream, Error> {
        drop(requests);
        Err(none("stream", from, kind))
    }

    /// Takes a bulk transfer: Arrow messages, the schema first. An error among them
    /// means that it is not whole.
    async fn bulk(
        &self,
        from: NodeId,
        kind: &str,
        meta: Bytes,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        drop((meta, messages));
        Err(none("bulk transfer", from, kind))
    }
}

fn none(what: &str, from: NodeId, kind: &str) -> Error {
    let kind: String = kind.chars().take(64).collect();
    Error::engine(
        Code::Unimplemented,
        format!("this node answers no {what} {kind:?}, asked by node {from}"),
    )
}

/// Answers nothing: of a node that has only an inbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEngine;

impl Engine for NoEngine {}
