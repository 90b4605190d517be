//! Why a call to the store failed.

use std::path::PathBuf;
use std::time::Duration;

use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable};

/// Why a call to the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No payload of this name.
    #[error("there is no payload {id}")]
    NotFound {
        /// The name asked for.
        id: BatchId,
    },
    /// The name is taken by other content.
    #[error(
        "payload {id} is stored with other content: checksum {stored}, offered {offered}; use another id"
    )]
    AlreadyExists {
        /// The name.
        id: BatchId,
        /// Checksum of what is stored.
        stored: String,
        /// Checksum of what was offered.
        offered: String,
    },
    /// The payload is pinned.
    #[error("payload {id} is pinned: unpin it first")]
    Pinned {
        /// The payload.
        id: BatchId,
    },
    /// Work on the payload is not over.
    #[error("payload {id} is needed: its batch is not over; cancel the batch first, or wait")]
    Needed {
        /// The payload.
        id: BatchId,
    },
    /// The payload was registered, and its coordinator is not there, or does not
    /// know it any more.
    #[error(
        "payload {id} was registered with a coordinator that does not know it now: start this server with that coordinator (it is registered again within minutes where the coordinator came back empty), then cancel the batch"
    )]
    Lost {
        /// The payload.
        id: BatchId,
    },
    /// The payload is used all the time.
    #[error("payload {id} is in use again and again: try again")]
    Busy {
        /// The payload.
        id: BatchId,
    },
    /// Payloads are held, as for a backup.
    #[error(
        "payload {id} is not deleted now: a backup or another reader of all payloads holds them, for {} s at most unless it goes on; try again then",
        .left.as_secs().max(1)
    )]
    Held {
        /// The payload.
        id: BatchId,
        /// How long, should nobody renew the hold.
        left: Duration,
    },
    /// So many hold payloads already.
    #[error(
        "payloads are held {limit} times already, which is the limit: try again when one of these ends"
    )]
    TooManyHolds {
        /// The limit.
        limit: usize,
    },
    /// A hold was not renewed in time.
    #[error(
        "the hold on payloads ran out, since it was not renewed for {} s: payloads may have gone; begin anew",
        .lifetime.as_secs()
    )]
    HoldLost {
        /// How long it stands without being renewed.
        lifetime: Duration,
    },
    /// The memory budget is used up and nothing can make room.
    #[error(
        "memory is full: {needed} bytes asked for, {used} of {limit} in use and nothing left to spill; try again when work is done, or raise the memory limit"
    )]
    MemoryFull {
        /// Bytes asked for.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// The limit that was run into: of the budget, or of the namespace.
        limit: u64,
    },
    /// The file system is full.
    #[error("no space for {}: free space there", .path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The limit of bytes on disk is reached.
    #[error(
        "{needed} bytes do not fit: {used} of {limit} bytes on disk are in use; delete payloads or raise the disk limit"
    )]
    DiskQuota {
        /// Bytes asked for.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// What one token may have stored is used up.
    #[error(
        "the quota of token {name:?} is full: {needed} bytes do not fit, {used} of {quota} bytes are in use or on their way; delete payloads of this token, wait until some expire, or raise quota= in the token file"
    )]
    QuotaFull {
        /// The name of the token.
        name: String,
        /// Bytes of the payload as far as it had come.
        needed: u64,
        /// Bytes that count for the name without it.
        used: u64,
        /// The limit.
        quota: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error(
        "data directory {} cannot be written: make it writable for this user, or name another",
        .path.display()
    )]
    NotWritable {
        /// The directory, or the part of it that failed.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the data directory.
    #[error(
        "data directory {} is in use by process {pid}: stop it, or name another directory",
        .path.display()
    )]
    DirectoryLocked {
        /// The directory.
        path: PathBuf,
        /// The process, or `unknown`.
        pid: String,
    },
    /// A newer Sheaf wrote the data directory.
    #[error(
        "{} has format {found}, this build reads up to {supported}: use the newer one",
        .path.display()
    )]
    FormatNewer {
        /// The directory or file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this build reads.
        supported: u64,
    },
    /// The file with the number of the format holds something else.
    #[error(
        "{} holds {found:?} where the number of the format is expected, {expected} for data of this build: check what else in the directory was changed, then write that number into the file",
        .path.display()
    )]
    FormatUnreadable {
        /// The file.
        path: PathBuf,
        /// How its text begins.
        found: String,
        /// What this build writes.
        expected: u64,
    },
    /// A restore into the directory has not come to its end.
    #[error(
        "data directory {} is not restored to its end: wait for the restore, or, if it was broken off, empty the directory and restore again",
        .path.display()
    )]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// The directory for new data has something in it.
    #[error(
        "{} is not empty: name a directory that is not there yet, or an empty one",
        .path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A file outside the store is not the payload that it should be.
    #[error("{} is damaged: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not match.
        detail: String,
    },
    /// The stored bytes are not those that were put.
    #[error("payload {id} is damaged ({detail}) and was set aside as {}", .path.display())]
    Corrupt {
        /// The payload.
        id: BatchId,
        /// Where the file is now.
        path: PathBuf,
        /// What does not match.
        detail: String,
    },
    /// Durability `disk` without a data directory.
    #[error("durability disk needs a data directory, and this store has none: ask for memory")]
    NoDirectory,
    /// The store is closing.
    #[error("the store is closing: try again on the server that comes next")]
    Closed,
    /// The payload is stored, and could not be registered.
    #[error("payload {id} is stored, but could not be registered: repeat the same put")]
    Register {
        /// The payload.
        id: BatchId,
        /// What the owner said.
        #[source]
        source: sheaf_flight::Error,
    },
    /// The stream that was put, or a stored one while it was decoded.
    #[error(transparent)]
    Stream(#[from] sheaf_flight::Error),
    /// A request that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A background task ended without an answer: a bug.
    #[error("a task of the store ended without an answer")]
    TaskLost,
}

/// Time after which memory may have become free: the shortest work there is
/// takes about as long.
const MEMORY_HINT: Duration = Duration::from_millis(250);

/// A hold is renewed for as long as it is needed, and ends without notice.
const HELD_HINT: Duration = Duration::from_secs(5);

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::NotFound { .. } => Code::NotFound,
            Error::AlreadyExists { .. } => Code::AlreadyExists,
            Error::MemoryFull { .. } => Code::MemoryFull,
            Error::DiskFull { .. } | Error::DiskQuota { .. } => Code::DiskFull,
            Error::QuotaFull { .. } => Code::QuotaFull,
            Error::Io { .. } | Error::NotWritable { .. } => Code::Io,
            Error::DirectoryLocked { .. } => Code::DirectoryLocked,
            Error::FormatNewer { .. } => Code::FormatNewer,
            Error::Corrupt { .. } | Error::Damaged { .. } | Error::FormatUnreadable { .. } => {
                Code::Corrupt
            }
            Error::NoDirectory
            | Error::Pinned { .. }
            | Error::Needed { .. }
            | Error::Lost { .. }
            | Error::Unfinished { .. } => Code::FailedPrecondition,
            Error::NotEmpty { .. } => Code::AlreadyExists,
            Error::Busy { .. } | Error::Held { .. } | Error::TooManyHolds { .. } => {
                Code::Overloaded
            }
            Error::HoldLost { .. } => Code::DeadlineExceeded,
            Error::Closed => Code::Draining,
            Error::Register { source, .. } | Error::Stream(source) => source.code(),
            Error::Invalid(_) => Code::InvalidArgument,
            Error::TaskLost => Code::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::MemoryFull { .. } => Some(MEMORY_HINT),
            Error::Held { left, .. } => Some((*left).min(HELD_HINT)),
            Error::Register { source, .. } | Error::Stream(source) => source.retry_after(),
            _ => None,
        }
    }
}

impl From<Error> for sheaf_flight::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Stream(inner) => inner,
            other => sheaf_flight::Error::from_error(other),
        }
    }
}

/// An i/o error by what is to be done about it.
pub(crate) fn io_error(
    doing: &'static str,
    path: &std::path::Path,
    source: std::io::Error,
) -> Error {
    let path = path.to_path_buf();
    match source.code() {
        Code::DiskFull => Error::DiskFull { path, source },
        _ => Error::Io { doing, path, source },
    }
}
