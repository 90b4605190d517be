//! What those need who work on a replicated state machine.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_retry::{Code, Retryable};
use tokio::sync::watch;

use crate::types::{Member, NodeId};

/// Who leads, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader and where it is reached; `None` while there is none.
    pub leader: Option<(NodeId, Member)>,
    /// It is this node, and it has applied all that was committed before its term:
    /// what it reads and proposes builds on the whole state.
    pub is_ready: bool,
    /// Why this node has stopped, where it has: it learns of no leader any more.
    pub stopped: Option<String>,
}

/// Why a node did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another node leads, or none. Nothing was done.
    #[error("this node does not lead{}", match leader {
        Some((id, member)) => format!(": node {id} at {member} does"),
        None => ", and knows of no leader".to_owned(),
    })]
    NotLeader {
        /// Who does, where known.
        leader: Option<(NodeId, Member)>,
    },
    /// The node lost the lead before it learned what became of the command: it may
    /// still be applied.
    #[error("what became of the command is not known: {problem}")]
    Unknown {
        /// What happened.
        problem: String,
    },
    /// More waits than the node takes; nothing was done.
    #[error("{actual} {what} wait, the limit is {limit}")]
    Full {
        /// Commands or bytes.
        what: &'static str,
        /// How many there are.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A command of more bytes than an entry takes; nothing was done.
    #[error("a command has {actual} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The node stopped, and why.
    #[error("the node has stopped: {problem}")]
    Stopped {
        /// Why.
        problem: String,
        /// Disk full, input and output, or unavailable.
        code: Code,
    },
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::NotLeader { .. } | Error::Unknown { .. } => Code::Unavailable,
            Error::Full { .. } => Code::Overloaded,
            Error::TooLarge { .. } => Code::LimitExceeded,
            Error::Stopped { code, .. } => *code,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// One node of a cluster, to whoever proposes to it and reads its state.
#[async_trait]
pub trait Replica<M>: Send + Sync + 'static {
    /// Has the command applied on every node, and returns what this one's state
    /// machine answered. Dropping the call leaves open whether it is applied.
    ///
    /// # Errors
    /// Of [`Error`]; only after `Unknown` the command may have been applied.
    async fn propose(&self, command: Bytes) -> Result<Bytes, Error>;

    /// Returns when this node's state has everything that was acknowledged before
    /// the call, by any node: what is read afterwards is linearizable.
    ///
    /// # Errors
    /// Of [`Error`]; on a follower too, it asks the leader. `NotLeader` where no majority answers,
    /// or this node does not come to have it, within two election timeouts.
    async fn read_barrier(&self) -> Result<(), Error>;

    /// Looks at the state as it is; commands wait meanwhile, so be brief.
    fn with_machine(&self, look: &mut dyn FnMut(&mut M));

    /// Who leads, now and whenever that changes.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// The index of the last entry that was on disk when the node was started, `None` where there
    /// was none: what is applied behind it came from a leader since.
    fn restored(&self) -> Option<u64> {
        None
    }

    /// The index of the last applied entry, now and whenever it grows.
    fn applied(&self) -> watch::Receiver<u64>;
}
