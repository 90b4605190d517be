//! What can go wrong between two nodes.

use std::time::Duration;

use sheaf_retry::{Class, Code, Disposition, Retryable};

use crate::NodeId;
use crate::frame::Reason;

/// Why a message was not carried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot work; everything that is wrong with it.
    #[error("the configuration of the transport: {}", problems.join("; "))]
    Config {
        /// One text for each value.
        problems: Vec<String>,
    },
    /// A peer that was never connected, or was disconnected.
    #[error("node {peer} is no peer; connect_to_peer makes it one")]
    UnknownPeer {
        /// Which.
        peer: NodeId,
    },
    /// More peers than the transport keeps.
    #[error("{limit} peers are there already, max_peers allows no more")]
    TooManyPeers {
        /// The limit.
        limit: usize,
    },
    /// A message that is longer than is allowed; it was not sent.
    #[error(
        "{what} has {actual} bytes, {limit_name} is {limit}; send less at once, or raise it on every node"
    )]
    TooLarge {
        /// What is too long.
        what: &'static str,
        /// Its bytes.
        actual: usize,
        /// The most that is allowed.
        limit: usize,
        /// The field of the configuration.
        limit_name: &'static str,
    },
    /// None of the addresses of a peer can be used now; nothing was sent.
    #[error("node {peer} is not reached over its {lane} connection: {problem}")]
    Unreachable {
        /// Who.
        peer: NodeId,
        /// Over which lane.
        lane: &'static str,
        /// What the last attempt said.
        problem: String,
        /// When the next attempt is made.
        retry_after: Duration,
    },
    /// The call to a peer failed: it said why, or the connection broke.
    #[error("node {peer}")]
    Peer {
        /// Who.
        peer: NodeId,
        /// What came.
        #[source]
        source: sheaf_flight::Error,
    },
    /// A frame that is not what it has to be; its stream has ended.
    #[error("a bad frame ({reason}): {problem}")]
    Frame {
        /// Of what kind, as metrics count it.
        reason: Reason,
        /// What is wrong.
        problem: String,
    },
    /// The peer did not answer in time.
    #[error("node {peer} did not answer {what} within {} ms", after.as_millis())]
    Deadline {
        /// Who.
        peer: NodeId,
        /// What was asked.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The stream is over: the peer ended it, or its other half was dropped.
    #[error("the stream to node {peer} is over")]
    Ended {
        /// Who.
        peer: NodeId,
    },
    /// The transport was shut down.
    #[error("the transport is shut down")]
    Closed,
    /// What the engine of this node says.
    #[error("{problem}")]
    Engine {
        /// The code that the caller sees.
        code: Code,
        /// The text that it sees.
        problem: String,
    },
    /// Flight itself: the port, certificates, tokens.
    #[error("{0}")]
    Flight(sheaf_flight::Error),
}

impl Error {
    /// What an engine answers in place of a message.
    pub fn engine(code: Code, problem: impl Into<String>) -> Self {
        Error::Engine { code, problem: problem.into() }
    }

    pub(crate) fn frame(reason: Reason, problem: impl Into<String>) -> Self {
        Error::Frame { reason, problem: problem.into() }
    }

    pub(crate) fn peer(peer: NodeId, source: sheaf_flight::Error) -> Self {
        Error::Peer { peer, source }
    }

    /// Its text with those of its causes, for a line of the log.
    pub(crate) fn with_causes(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |error| error.source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    /// Whether nothing was sent because the peer cannot be reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }

    /// Whether it says something about the connection, which is then tried anew.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(
            self.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Draining | Code::Cancelled
        )
    }

    /// The word by which metrics count it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Error::Frame { reason, .. } => reason.as_str(),
            other => other.code().as_str(),
        }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Config { .. } => Code::InvalidArgument,
            Error::UnknownPeer { .. } => Code::NotFound,
            Error::TooManyPeers { .. } | Error::TooLarge { .. } => Code::LimitExceeded,
            Error::Unreachable { .. } | Error::Ended { .. } => Code::Unavailable,
            Error::Peer { source, .. } | Error::Flight(source) => source.code(),
            Error::Frame { reason, .. } => reason.code(),
            Error::Deadline { .. } => Code::DeadlineExceeded,
            Error::Closed => Code::Draining,
            Error::Engine { code, .. } => *code,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Unreachable { retry_after, .. } => Some(*retry_after),
            Error::Peer { source, .. } | Error::Flight(source) => source.retry_after(),
            _ => None,
        }
    }

    fn disposition(&self) -> Disposition {
        match (self, self.code().class()) {
            (Error::Peer { source, .. } | Error::Flight(source), _) => source.disposition(),
            (_, Class::Transient) => Disposition::Transient { after: self.retry_after() },
            (_, Class::Permanent) => Disposition::Permanent,
        }
    }
}

impl From<Error> for sheaf_flight::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Flight(error) => error,
            error => sheaf_flight::Error::from_error(error),
        }
    }
}

impl From<sheaf_flight::Error> for Error {
    fn from(error: sheaf_flight::Error) -> Self {
        Error::Flight(error)
    }
}
