//! Why a server did not start.

use sheaf_retry::{Code, Retryable};

/// What to do about a data directory whose format cannot be told.
pub(crate) const FORMAT_ADVICE: &str = "find out what changed FORMAT and what else it changed; \
    where the rest is sound, write the number into it again, else put a backup in its place";

/// What to do where a node's log or snapshots are damaged.
pub(super) const RAFT_ADVICE: &str = "the other nodes have what this one had: `sheaf raft remove` \
    it at one of them, and add a new node under another --node-id";

/// What to do about a damaged file of a coordinator.
pub(crate) const COORDINATOR_ADVICE: &str = "put a backup of coordinator.redb in its place; or \
    move it away, to start with no batch registered";

/// What to do where Valkey does not answer.
pub(crate) const VALKEY_ADVICE: &str = "start Valkey there, or correct --valkey-addr; \
    `sheaf doctor` with the same settings looks closer";

/// What to do where Valkey lets nobody in.
pub(crate) const VALKEY_USER_ADVICE: &str = "give the user and the password that Valkey has: \
    --valkey-user, and --valkey-password-file or SHEAF_VALKEY_PASSWORD";

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be had, or the Flight server cannot be put together.
    #[error(transparent)]
    Flight(#[from] sheaf_flight::Error),
    /// The admin port cannot be had.
    #[error("--admin-addr {address} {problem}")]
    AdminPort {
        /// As configured.
        address: String,
        /// What is wrong, and what to do.
        problem: String,
        /// Stable code.
        code: Code,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] sheaf_store::Error),
    /// What keeps partitions cannot be opened.
    #[error("partitions of other workers cannot be kept")]
    Exchange(#[source] sheaf_exchange::shuffle::Error),
    /// The coordinator cannot be opened.
    #[error("the coordinator of {data_dir} cannot be opened")]
    Coordinator {
        /// The data directory.
        data_dir: String,
        /// Why.
        #[source]
        source: sheaf_coordinator::Error,
    },
    /// Valkey cannot be used.
    #[error("the coordinator on Valkey cannot be used")]
    Valkey {
        /// Why.
        #[source]
        source: sheaf_coordinator::Error,
    },
    /// A node of the replicated coordinator cannot be started.
    #[error("the node of the replicated coordinator in {data_dir} cannot be started")]
    Raft {
        /// The data directory.
        data_dir: String,
        /// Why.
        #[source]
        source: sheaf_raft::node::StartError,
    },
    /// The sink cannot be opened.
    #[error("--sink {sink} cannot be opened")]
    Sink {
        /// As configured.
        sink: String,
        /// Why.
        #[source]
        source: sheaf_connectors::Error,
    },
    /// The workers cannot be started.
    #[error(transparent)]
    Worker(#[from] sheaf_worker::Error),
    /// The admin port cannot be served.
    #[error(transparent)]
    Telemetry(#[from] sheaf_telemetry::Error),
    /// The configuration is for another mode.
    #[error("the configuration is for mode {configured}: start {instead} with it")]
    OtherMode {
        /// What it says.
        configured: &'static str,
        /// What to start.
        instead: &'static str,
    },
    /// A thread of the start ended without an answer: a bug.
    #[error("{0} ended without an answer")]
    Lost(&'static str),
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Flight(error) => error.code(),
            Error::AdminPort { code, .. } => *code,
            Error::Raft { source, .. } => source.code(),
            Error::Store(error) => error.code(),
            Error::Exchange(error) => error.code(),
            Error::Coordinator { source, .. } | Error::Valkey { source } => source.code(),
            Error::Sink { source, .. } => source.code(),
            Error::Worker(error) => error.code(),
            Error::Telemetry(error) => error.code(),
            Error::OtherMode { .. } => Code::FailedPrecondition,
            Error::Lost(_) => Code::Internal,
        }
    }
}
