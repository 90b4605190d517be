//! Why a log cannot be opened, written or read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{Code, Retryable};

use crate::types::NodeId;

/// Of the log of a node.
///
/// After one of writing, nothing more is written until the log is opened again:
/// what was acknowledged is on disk, what was not is cut off.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the directory.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("{path} has records of version {actual}, this build knows up to {limit}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        actual: u32,
        /// The last one that is known.
        limit: u32,
    },
    /// The directory is of another node, or of another cluster.
    #[error(
        "{path} is of node {actual_node} of cluster {actual_cluster:?}, and not of node {node} of cluster {cluster:?}"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        actual_cluster: String,
        /// Whose it is.
        actual_node: NodeId,
        /// Who opened it.
        cluster: String,
        /// Who opened it.
        node: NodeId,
    },
    /// Bytes that were acknowledged are not what was written, or are missing.
    #[error(
        "{path} is damaged at byte {at}: {problem}; what was acknowledged would be lost, so the node does not start: restore the file, or remove this node from the cluster and add a new one under another id"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// An entry of more bytes than a record takes.
    #[error("entry {index} has {actual} bytes, the limit is {limit}")]
    TooLarge {
        /// Which.
        index: u64,
        /// Its bytes.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Entries that do not follow the ones before. A bug of the caller.
    #[error("entry {actual} does not follow entry {last}")]
    Hole {
        /// The last one of the log.
        last: u64,
        /// The one to be appended.
        actual: u64,
    },
    /// No room. Nothing after the last acknowledged write is kept.
    #[error("{doing} {path}: the disk is full")]
    DiskFull {
        /// What was done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// Reading or writing failed.
    #[error("{doing} {path}")]
    Io {
        /// What was done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The log was closed.
    #[error("{path} is closed")]
    Closed {
        /// The directory.
        path: PathBuf,
    },
}

/// Whether there is no room: a limit on the size of files is a quota too.
pub(crate) fn is_full(error: &io::Error) -> bool {
    error.code() == Code::DiskFull || error.kind() == io::ErrorKind::FileTooLarge
}

impl Error {
    /// Of the system.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            let is_full = is_full(&source);
            let source = Arc::new(source);
            match is_full {
                true => Error::DiskFull { doing, path, source },
                false => Error::Io { doing, path, source },
            }
        }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Locked { .. } => Code::DirectoryLocked,
            Error::Newer { .. } => Code::FormatNewer,
            Error::Foreign { .. } => Code::FailedPrecondition,
            Error::Damaged { .. } => Code::Corrupt,
            Error::TooLarge { .. } => Code::LimitExceeded,
            Error::Hole { .. } => Code::Internal,
            Error::DiskFull { .. } => Code::DiskFull,
            Error::Io { .. } => Code::Io,
            Error::Closed { .. } => Code::Unavailable,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.code() {
            Code::DiskFull => io::ErrorKind::StorageFull,
            Code::Corrupt => io::ErrorKind::InvalidData,
            Code::LimitExceeded | Code::Internal => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
