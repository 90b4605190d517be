//! Why a source or sink failed.

use sheaf_retry::{Code, Retryable};

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

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Io { code, .. } => *code,
            Error::Malformed { .. } => Code::MalformedData,
            Error::Invalid(_) => Code::InvalidArgument,
            Error::Process { permanent: true, .. } => Code::ProcessorFailed,
            Error::Process { permanent: false, .. } => Code::Unavailable,
        }
    }
}
