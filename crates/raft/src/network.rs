//! How the nodes reach each other: the engine's messages over links that may fail.
//!
//! A node knows its links only as [`Links`], which the transport over Arrow Flight is and a
//! simulation can be, and is known to those who call it only as [`Service`]. What crosses is a
//! [`Message`]: a small head, which is Protocol Buffers, and payloads, which are not looked at.
//!
//! What arrives is checked before the engine sees it, as the engine trusts its peers: an append
//! whose entries do not follow each other or a snapshot that its leader cannot have is refused,
//! with its stream.

mod append;
mod client;
pub mod flight;
mod service;
mod snapshot;
mod transit;
mod trouble;
pub(crate) mod wire;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use sheaf_retry::Code;

pub(crate) use self::client::Peers;
pub(crate) use self::service::{Incoming, Local, Own};
pub use self::transit::{Manifest, Transit};
pub(crate) use self::trouble::Troubles;
use crate::types::{Member, NodeId};

/// Of which kind a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Entries or a heartbeat.
    Append,
    /// A vote is asked for.
    Vote,
    /// Whether a vote would be given.
    PreVote,
    /// The lead is handed over.
    Transfer,
    /// The index that a linearizable read waits for.
    ReadIndex,
    /// A command for the leader.
    Propose,
    /// What a node has.
    Hello,
    /// A whole snapshot.
    Snapshot,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 8] = [
        Topic::Append,
        Topic::Vote,
        Topic::PreVote,
        Topic::Transfer,
        Topic::ReadIndex,
        Topic::Propose,
        Topic::Hello,
        Topic::Snapshot,
    ];

    /// As it is written on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Append => "append",
            Topic::Vote => "vote",
            Topic::PreVote => "pre-vote",
            Topic::Transfer => "transfer",
            Topic::ReadIndex => "read-index",
            Topic::Propose => "propose",
            Topic::Hello => "hello-node",
            Topic::Snapshot => "snapshot",
        }
    }

    /// The kind of that name.
    pub fn of(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// Which connection a message takes, so that small ones never wait behind large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes, questions.
    Control,
    /// Entries and commands.
    Data,
    /// Snapshots.
    Bulk,
}

/// What crosses a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Protocol Buffers of the topic.
    pub head: Bytes,
    /// Bytes that only the ends look at.
    pub payloads: Vec<Bytes>,
}

impl Message {
    /// All bytes of it.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.payloads.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The node could not be reached: nothing was sent.
    #[error("node {node} cannot be reached: {problem}")]
    Unreachable {
        /// Which node.
        node: NodeId,
        /// What happened.
        problem: String,
    },
    /// The link broke: what was sent may have arrived.
    #[error("the link to node {node} broke: {problem}")]
    Cut {
        /// Which node.
        node: NodeId,
        /// What happened.
        problem: String,
    },
    /// The other side does not take it, now or ever.
    #[error("node {node} refused: {problem}")]
    Refused {
        /// Which node.
        node: NodeId,
        /// Its code.
        code: Code,
        /// Its words.
        problem: String,
    },
}

/// Why a node does not take what it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Refusal {
    /// The code, for the other side.
    pub code: Code,
    /// What is wrong.
    pub problem: String,
}

impl Refusal {
    /// What was sent cannot be.
    pub(crate) fn malformed(problem: impl Into<String>) -> Self {
        Refusal { code: Code::MalformedData, problem: problem.into() }
    }
}

/// The way to the other nodes.
///
/// 1. A stream delivers its requests in order and each once, or ends with an error: one that is
///    missing is never passed over.
/// 2. The answers of a stream come in its order and belong to no other.
/// 3. Dropping a call or a stream gives it up.
/// 4. Requests of a stream are taken only as fast as they can be sent.
#[async_trait]
pub trait Links: Send + Sync + 'static {
    /// Sends one message and waits for its answer; the caller limits the time.
    ///
    /// # Errors
    /// Of [`Broken`].
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        message: Message,
    ) -> Result<Message, Broken>;

    /// Opens a stream of messages and of their answers.
    ///
    /// # Errors
    /// Of [`Broken`]; when it breaks later, its last answer is one.
    async fn stream(
        &self,
        to: NodeId,
        member: &Member,
        lane: Lane,
        topic: Topic,
        requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken>;

    /// Lets go of a node that does not belong to the cluster; it is reached again where somebody
    /// has something for it.
    async fn forget(&self, _: NodeId) {}
}

/// What a node does for the others; the links have made sure who they are.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one message.
    ///
    /// # Errors
    /// Of [`Refusal`].
    async fn call(&self, from: NodeId, topic: Topic, message: Message) -> Result<Message, Refusal>;

    /// Answers a stream of messages; an error is the last answer.
    fn stream(
        &self,
        from: NodeId,
        topic: Topic,
        requests: BoxStream<'static, Result<Message, Broken>>,
    ) -> BoxStream<'static, Result<Message, Refusal>>;
}
