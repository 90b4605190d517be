//! Why a source or sink failed.

use std::io;
use std::path::Path;

use sheaf_retry::{Code, Retryable};

/// What was to be done where the library of a database cannot be had.
pub(crate) const LOAD: &str = "load the driver";

/// An error of a source, sink or external program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or object could not be read or written.
    #[error("{operation} {place}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        place: String,
        /// Stable code: `io`, `not_found`, `disk_full`, `permission_denied`.
        code: Code,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The content is not what its format asks for.
    #[error("{place} is not valid {format}")]
    Malformed {
        /// Where.
        place: String,
        /// Which format.
        format: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request cannot be carried out as asked.
    #[error("{0}")]
    Invalid(String),
    /// The format has no place for a column of this type.
    #[error("column {column}: {format} cannot hold {data_type}; {advice}")]
    Unsupported {
        /// The column, with the path to a nested field.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// The format.
        format: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// More than a configured limit allows.
    #[error("{what}: {actual} bytes are over the limit of {limit}; {advice}")]
    Limit {
        /// What is too large.
        what: String,
        /// Its size, or as much of it as was seen.
        actual: u64,
        /// The limit.
        limit: u64,
        /// What to do about it.
        advice: &'static str,
    },
    /// Another writer has moved a partition on: what is stored is not what this
    /// one has read or written.
    #[error(
        "group {group}: {topic}, partition {partition}: expected {}, found {}: another writer has it",
        offset(*.expected), offset(*.found)
    )]
    Fenced {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that this writer believes in.
        expected: Option<i64>,
        /// The one that is stored, where it was seen.
        found: Option<i64>,
    },
    /// The external program failed.
    #[error("{command}: {problem}")]
    Process {
        /// The program.
        command: String,
        /// What happened, with the end of its standard error.
        problem: String,
        /// No retry would help (exit code 65).
        permanent: bool,
    },
}

fn offset(offset: Option<i64>) -> String {
    offset.map_or_else(|| "no offset".into(), |offset| format!("offset {offset}"))
}

impl Error {
    /// A failed system call, with the code that its kind has. `place` is a
    /// path, or any other text that says where.
    ///
    /// ```
    /// use std::io::ErrorKind;
    ///
    /// use sheaf_connectors::Error;
    /// use sheaf_retry::{Code, Retryable as _};
    ///
    /// let full = Error::io("append to", "/data/log.jsonl", ErrorKind::StorageFull.into());
    /// assert_eq!((full.to_string().as_str(), full.code()), ("append to /data/log.jsonl", Code::DiskFull));
    /// ```
    pub fn io(operation: &'static str, place: impl AsRef<Path>, source: io::Error) -> Self {
        let place = place.as_ref().display().to_string();
        Error::Io { operation, place, code: source.code(), source: Box::new(source) }
    }

    /// A failure of another system, such as a database, with the code that
    /// says whether to try again. `place` goes into logs: no secrets in it.
    ///
    /// ```
    /// use sheaf_connectors::Error;
    /// use sheaf_retry::{Class, Code, Retryable as _};
    ///
    /// let error = Error::external("insert into", "pg:flights", Code::Unavailable, "shutting down");
    /// assert_eq!(error.code().class(), Class::Transient);
    /// ```
    pub fn external(
        operation: &'static str,
        place: impl Into<String>,
        code: Code,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::Io { operation, place: place.into(), code, source: source.into() }
    }

    /// Whether the library of a database is missing, and not one of its files.
    pub fn is_missing_library(&self) -> bool {
        matches!(self, Error::Io { operation, code: Code::NotFound, .. } if *operation == LOAD)
    }

    /// Content that its format refuses; no further attempt is made.
    pub fn malformed(
        place: impl Into<String>,
        format: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::Malformed { place: place.into(), format, source: source.into() }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Io { code, .. } => *code,
            Error::Malformed { .. } => Code::MalformedData,
            Error::Invalid(_) | Error::Unsupported { .. } => Code::InvalidArgument,
            Error::Limit { .. } => Code::LimitExceeded,
            Error::Fenced { .. } => Code::StaleFence,
            Error::Process { permanent: true, .. } => Code::ProcessorFailed,
            Error::Process { permanent: false, .. } => Code::Unavailable,
        }
    }
}

/// The first `io::Error` in a chain of causes that says what the system said.
pub(crate) fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}
