//! Why a snapshot cannot be written, read or used.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::ArrowError;
use sheaf_retry::{Code, Retryable};

use crate::log::is_full;
use crate::machine::MachineError;

/// Of the snapshots of a node.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its bytes are not those that were written.
    #[error("snapshot {path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A later version wrote it.
    #[error("snapshot {path} is of version {actual}, this build knows up to {limit}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        actual: u32,
        /// The last one that is known.
        limit: u32,
    },
    /// It is of another cluster.
    #[error("snapshot {path} is of cluster {actual:?}, and not of {cluster:?}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        actual: String,
        /// Whose it should be.
        cluster: String,
    },
    /// The log begins behind the newest snapshot that is whole.
    #[error("entries up to {purged} are no longer in the log, and {} covers them{}: restore the file, or remove this node from the cluster and add a new one under another id", match snapshot {
        Some(index) => format!("the newest whole snapshot, up to {index}, no longer"),
        None => "no snapshot".to_owned(),
    }, match damaged {
        Some(path) => format!(" ({} is damaged)", path.display()),
        None => String::new(),
    })]
    NotCovered {
        /// Entries up to this one were purged.
        purged: u64,
        /// The last entry of the newest whole snapshot.
        snapshot: Option<u64>,
        /// The one that was damaged.
        damaged: Option<PathBuf>,
    },
    /// There is a snapshot, and a log that has never held anything.
    #[error(
        "there is snapshot {path}, and no log: put the log back, or remove this node from the cluster and add a new one under another id and in an empty directory"
    )]
    WithoutLog {
        /// The file.
        path: PathBuf,
    },
    /// More bytes than a snapshot may have.
    #[error("a snapshot of {actual} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A chunk that does not begin where the last one ended. Go on at `expected`.
    #[error("a chunk begins at byte {actual} of the snapshot, expected was {expected}")]
    OutOfOrder {
        /// Where the next chunk must begin.
        expected: u64,
        /// Where this one did.
        actual: u64,
    },
    /// What was received is not what was announced.
    #[error("the snapshot that was received is not {announced}: {problem}")]
    NotAsAnnounced {
        /// What was announced.
        announced: String,
        /// How it differs.
        problem: String,
    },
    /// The state machine cannot make or read it.
    #[error("the state machine could not {doing}")]
    Machine {
        /// What it was asked.
        doing: &'static str,
        /// Its error.
        #[source]
        source: Arc<MachineError>,
    },
    /// The machine has another state than the one the snapshot was made of.
    #[error(
        "after {path} was restored the state has digest {actual:016x}, and not {expected:016x}"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Of the machine that it was made of.
        expected: u64,
        /// Of the one that read it.
        actual: u64,
    },
    /// Another snapshot was begun, or one was installed.
    #[error("another snapshot took the place of this one")]
    Superseded,
    /// No room.
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
}

impl Error {
    /// Of the system.
    pub(super) fn io(
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

    /// Of the library that reads and writes record batches.
    pub(super) fn arrow(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(ArrowError) -> Self {
        let path = path.into();
        move |error| match error {
            ArrowError::IoError(_, source) => Error::io(doing, path)(source),
            other => Error::Damaged { path, problem: other.to_string() },
        }
    }

    /// Of the machine.
    pub(crate) fn machine(doing: &'static str) -> impl FnOnce(MachineError) -> Self {
        move |source| Error::Machine { doing, source: Arc::new(source) }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Damaged { .. }
            | Error::NotCovered { .. }
            | Error::WithoutLog { .. }
            | Error::Digest { .. } => Code::Corrupt,
            Error::Newer { .. } => Code::FormatNewer,
            Error::Foreign { .. } | Error::OutOfOrder { .. } => Code::FailedPrecondition,
            Error::TooLarge { .. } => Code::LimitExceeded,
            Error::NotAsAnnounced { .. } => Code::MalformedData,
            Error::Machine { .. } => Code::Internal,
            Error::Superseded => Code::Unavailable,
            Error::DiskFull { .. } => Code::DiskFull,
            Error::Io { .. } => Code::Io,
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
            Code::Corrupt | Code::MalformedData => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
