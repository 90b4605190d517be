//! What can go wrong between workers.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sheaf_flight::Full;
use sheaf_retry::{Code, Disposition, Retryable};

use super::key::{PartitionKey, Totals};

/// How long who is refused for want of memory waits before the next attempt.
const ROOM_AFTER: Duration = Duration::from_millis(100);

/// Why data could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No name of a query.
    #[error(
        "query {name:?} has {bytes} bytes; a name has 1 to {limit} characters of letters, digits and ._:-"
    )]
    Name {
        /// What was given, cut.
        name: String,
        /// Its length.
        bytes: usize,
        /// Longest name.
        limit: usize,
    },
    /// A path that names no partition.
    #[error("{0}")]
    Path(String),
    /// A ticket that cannot be read.
    #[error("ticket {ticket:?}: {why}")]
    Ticket {
        /// What was given, cut.
        ticket: String,
        /// What is wrong with it.
        why: String,
    },
    /// A call without what it needs, or with something wrong.
    #[error("{0}")]
    Argument(String),
    /// Numbers of a sender that contradict each other.
    #[error("sender {index} of {senders}; senders are numbered from 0, and there are 1 to {limit}")]
    SenderNumber {
        /// Its number.
        index: u32,
        /// How many there are.
        senders: u32,
        /// Most senders.
        limit: u32,
    },
    /// Senders of one partition count themselves differently.
    #[error("partition {key}: a sender says that there are {said} senders, others said {known}")]
    SenderCount {
        /// Which partition.
        key: PartitionKey,
        /// What this one says.
        said: u32,
        /// What the first one said.
        known: u32,
    },
    /// Nothing of this partition is here.
    #[error("partition {key} is not here: no sender has begun, or what was here is gone")]
    NotFound {
        /// Which partition.
        key: PartitionKey,
    },
    /// Nothing of this stage is here.
    #[error("stage {stage} of query {query:?} is not here")]
    NoStage {
        /// The query.
        query: String,
        /// Its stage.
        stage: u32,
    },
    /// The query was cleaned up.
    #[error("query {query:?} was cleaned up{why}; nothing of it is taken any more")]
    CleanedUp {
        /// The query.
        query: String,
        /// Why it went.
        why: Gone,
    },
    /// The worker is being shut down, and takes no new attempts.
    #[error("the worker is draining: attempts that have begun may end, no other begins")]
    Draining,
    /// A newer attempt of the same sender has begun.
    #[error(
        "partition {key}: attempt {attempt} of sender {sender} is over, attempt {newest} has begun"
    )]
    Stale {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// The attempt that is refused.
        attempt: u64,
        /// The newest one.
        newest: u64,
    },
    /// What is to be replaced was read already.
    #[error(
        "partition {key}: attempt {read} of sender {sender} was read, attempt {attempt} cannot replace it"
    )]
    AlreadyRead {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// The attempt that is refused.
        attempt: u64,
        /// The attempt that was read.
        read: u64,
    },
    /// A chunk without the one before it.
    #[error("partition {key}: sender {sender} sends chunk {sequence}, chunk {expected} is missing")]
    Gap {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// What came.
        sequence: u64,
        /// What was to come.
        expected: u64,
    },
    /// A chunk came twice and is not the same.
    #[error("partition {key}: sender {sender} sends chunk {sequence} again with other content")]
    Different {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// Which chunk.
        sequence: u64,
    },
    /// A chunk or a commit after the commit, or before the begin.
    #[error("partition {key}: sender {sender}: {problem}")]
    State {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// What does not fit.
        problem: String,
    },
    /// The sum at the end is not what came.
    #[error("partition {key}: sender {sender} committed {said:?}, there are {found:?}")]
    Totals {
        /// Which partition.
        key: PartitionKey,
        /// Which sender.
        sender: u32,
        /// What the commit says.
        said: Totals,
        /// What is there.
        found: Totals,
    },
    /// A reader got another number of rows than was committed.
    #[error("partition {key}: {said:?} were committed, {found:?} came")]
    Incomplete {
        /// Which partition.
        key: PartitionKey,
        /// What the worker says.
        said: Totals,
        /// What came.
        found: Totals,
    },
    /// A row, or a dictionary, that fits no message.
    #[error(
        "partition {key}: a chunk has {bytes} bytes, a message takes {limit}; a row or a dictionary is too large"
    )]
    TooLarge {
        /// Which partition.
        key: PartitionKey,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Two schemas in one partition.
    #[error("partition {key} has schema {known}, {problem} {said}")]
    Schema {
        /// Which partition.
        key: PartitionKey,
        /// Fingerprint of the first schema.
        known: String,
        /// Whose schema is another one.
        problem: &'static str,
        /// Fingerprint of the other.
        said: String,
    },
    /// A chunk whose bytes are not those that were sent.
    #[error("chunk {sequence} has CRC32C {found:08x}, {said:08x} was sent")]
    Corrupt {
        /// Which chunk.
        sequence: u64,
        /// Of what came.
        found: u32,
        /// What the other side says.
        said: u32,
    },
    /// Some senders have not committed yet.
    #[error(
        "partition {key} is not complete: {committed} of {senders} senders have committed, sender {missing} has not"
    )]
    NotReady {
        /// Which partition.
        key: PartitionKey,
        /// Those that have.
        committed: u32,
        /// All.
        senders: u32,
        /// The first that has not.
        missing: u32,
    },
    /// A pipelined reader has waited for long enough.
    #[error("partition {key}: nothing came for {waited_ms} ms, sender {missing} has not committed")]
    Stalled {
        /// Which partition.
        key: PartitionKey,
        /// How long.
        waited_ms: u64,
        /// The first sender that has not committed.
        missing: u32,
    },
    /// The partition is another one than the reader began with.
    #[error("partition {key} was begun anew: what was read of it before does not count")]
    Anew {
        /// Which partition.
        key: PartitionKey,
    },
    /// A reader asks for what a consuming reader has freed.
    #[error("partition {key}: chunk {position} was consumed; what is left begins with {first}")]
    Consumed {
        /// Which partition.
        key: PartitionKey,
        /// What was asked for.
        position: u64,
        /// The first chunk that is left.
        first: u64,
    },
    /// A reader asks for more than was ever read.
    #[error("partition {key}: chunk {position} is past what was read so far, which is {known}")]
    Position {
        /// Which partition.
        key: PartitionKey,
        /// What was asked for.
        position: u64,
        /// Chunks whose order is fixed.
        known: u64,
    },
    /// The memory for received chunks is used up.
    #[error("{} bytes more do not fit: {} of {} are in use", .0.needed, .0.used, .0.limit)]
    Memory(Full),
    /// A chunk that was moved to disk cannot be read back.
    #[error("spill file {} at byte {offset}: {problem}; compute the partition again", .path.display())]
    Spilled {
        /// The file.
        path: PathBuf,
        /// Where the chunk is in it.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A file or directory for chunks cannot be used.
    #[error("cannot {operation} {}", .path.display())]
    SpillIo {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The disk space for chunks is used up.
    #[error("{needed} bytes more do not fit on disk: {used} of {limit} are in use")]
    SpillFull {
        /// Bytes of the next file.
        needed: u64,
        /// Bytes of all files.
        used: u64,
        /// Most bytes.
        limit: u64,
    },
    /// Another process has the directory for chunks.
    #[error("another process spills to {}; each needs a directory of its own", .path.display())]
    SpillLocked {
        /// The directory.
        path: PathBuf,
    },
    /// An answer or a field that has another form than agreed.
    #[error("{0}")]
    Protocol(String),
    /// A partition could not be read from its worker: it has to be computed again.
    #[error(transparent)]
    Fetch(#[from] Box<FetchFailed>),
    /// A partition could not be sent.
    #[error(transparent)]
    Send(#[from] Box<SendFailed>),
    /// Rows could not be partitioned.
    #[error("partition rows")]
    Partition(#[source] crate::Error),
    /// A call, a message or the caller's own stream failed.
    #[error(transparent)]
    Flight(sheaf_flight::Error),
}

/// Why a query is not here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Somebody said that it is over.
    Asked,
    /// Nothing of it was sent or read for so long.
    Idle {
        /// How long at least.
        limit: Duration,
    },
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gone::Asked => Ok(()),
            Gone::Idle { limit } => {
                write!(f, " after nothing of it was sent or read for {limit:?}")
            }
        }
    }
}

/// A partition that could not be read from a worker.
///
/// It says what to compute again: the partition, whose rows that worker had.
#[derive(Debug, thiserror::Error)]
#[error("partition {partition} could not be fetched from {peer}")]
pub struct FetchFailed {
    /// The worker.
    pub peer: String,
    /// What was to be read.
    pub partition: PartitionKey,
    /// Why not, after all retries.
    #[source]
    pub cause: Box<Error>,
}

impl FetchFailed {
    /// The failed fetch in a chain of causes, however often it was wrapped.
    ///
    /// ```
    /// use sheaf_exchange::shuffle::{Error, FetchFailed};
    ///
    /// fn peer_to_blame<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    ///     FetchFailed::of(error).map(|failed| failed.peer.as_str())
    /// }
    /// # let error = Error::Argument("wrong".to_owned());
    /// # assert_eq!(peer_to_blame(&error), None);
    /// ```
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a FetchFailed> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failed) = error.downcast_ref::<FetchFailed>() {
                return Some(failed);
            }
            // It shows the text of what it holds, and so has no source of its own.
            if let Some(Error::Fetch(failed)) = error.downcast_ref::<Error>() {
                return Some(failed);
            }
            next = error.source();
        }
        None
    }
}

/// A partition that a worker did not take.
#[derive(Debug, thiserror::Error)]
#[error("partition {partition} could not be sent to {peer}")]
pub struct SendFailed {
    /// The worker.
    pub peer: String,
    /// What was to be sent.
    pub partition: PartitionKey,
    /// Why not, after all retries.
    #[source]
    pub cause: Box<Error>,
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Name { .. }
            | Error::Path(_)
            | Error::Ticket { .. }
            | Error::Argument(_)
            | Error::SenderNumber { .. }
            | Error::Position { .. } => Code::InvalidArgument,
            Error::NotFound { .. } | Error::NoStage { .. } => Code::NotFound,
            Error::Stale { .. } => Code::StaleFence,
            Error::Different { .. } => Code::AlreadyExists,
            Error::CleanedUp { .. }
            | Error::SenderCount { .. }
            | Error::AlreadyRead { .. }
            | Error::State { .. }
            | Error::Schema { .. } => Code::FailedPrecondition,
            Error::TooLarge { .. } => Code::LimitExceeded,
            Error::Totals { .. } | Error::Incomplete { .. } | Error::Protocol(_) => {
                Code::MalformedData
            }
            Error::Corrupt { .. } | Error::Spilled { .. } => Code::Corrupt,
            Error::Draining => Code::Draining,
            Error::SpillFull { .. } => Code::DiskFull,
            Error::SpillIo { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                _ => Code::Io,
            },
            Error::SpillLocked { .. } => Code::DirectoryLocked,
            Error::NotReady { .. } => Code::Unavailable,
            Error::Stalled { .. } => Code::DeadlineExceeded,
            // Chunks that the sender knows to be taken are not there any more.
            Error::Gap { .. } | Error::Consumed { .. } | Error::Anew { .. } => Code::PayloadLost,
            Error::Memory(full) if full.needed > full.limit => Code::LimitExceeded,
            Error::Memory(_) => Code::MemoryFull,
            Error::Fetch(failed) => failed.cause.code(),
            Error::Send(failed) => failed.cause.code(),
            Error::Partition(error) => error.code(),
            Error::Flight(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Memory(_) | Error::NotReady { .. } => Some(ROOM_AFTER),
            Error::Flight(error) => error.retry_after(),
            _ => None,
        }
    }

    fn disposition(&self) -> Disposition {
        match self {
            // Their retries are used up.
            Error::Fetch(_) | Error::Send(_) => Disposition::Exhausted,
            Error::Partition(error) => error.disposition(),
            Error::Flight(error) => error.disposition(),
            _ => match self.code().class() {
                sheaf_retry::Class::Transient => {
                    Disposition::Transient { after: self.retry_after() }
                }
                sheaf_retry::Class::Permanent => Disposition::Permanent,
            },
        }
    }
}

impl From<sheaf_flight::Error> for Error {
    fn from(error: sheaf_flight::Error) -> Self {
        Error::Flight(error)
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Error::Partition(error)
    }
}

impl From<Error> for sheaf_flight::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Flight(error) => error,
            other => sheaf_flight::Error::from_error(other),
        }
    }
}
