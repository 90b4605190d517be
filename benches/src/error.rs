//! Why a comparison did not succeed.

use std::io;

/// Why a comparison or a load did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A process could not be started or watched; has its last output.
    #[error(transparent)]
    Process(#[from] sheaf_testkit::Error),
    /// The coordinator refused or could not be reached.
    #[error("the coordinator answers: {0}")]
    Coordinator(#[from] sheaf_coordinator::Error),
    /// A Flight server refused or could not be reached.
    #[error("the Flight server answers: {0}")]
    Flight(#[from] sheaf_flight::Error),
    /// A topic could not be filled or read.
    #[cfg(feature = "kafka")]
    #[error("Kafka answers: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Messages could not be decoded.
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Decode(#[from] sheaf_kafka::DecodeError),
    /// Batches could not be partitioned.
    #[error("the partitioner: {0}")]
    Exchange(#[from] sheaf_exchange::Error),
    /// A message of Raft's transport did not come through.
    #[error("the transport: {0}")]
    Transport(#[from] sheaf_raft_transport::Error),
    /// The worker pool could not be made.
    #[error(transparent)]
    Worker(#[from] sheaf_worker::Error),
    /// A file or socket.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, and on what.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Anything that one sentence explains best.
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// For `map_err` on files and sockets.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}

/// The result of most things here.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
