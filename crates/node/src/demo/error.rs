//! Why the demo stopped.

use std::path::PathBuf;

use sheaf_retry::{Code, Retryable};

/// The demo could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its processes did not start or stop.
    #[error("{name} {problem}")]
    Process {
        /// Which.
        name: String,
        /// What happened.
        problem: String,
    },
    /// Its folder could not be used.
    #[error("cannot use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The compiled-in data or a result file could not be read.
    #[error("cannot read the data")]
    Data(#[from] arrow_schema::ArrowError),
    /// A call to the server failed.
    #[error("the server did not take a call")]
    Call(#[from] sheaf_flight::Error),
    /// A call to the coordinator failed.
    #[error("the coordinator did not answer")]
    Coordinator(#[from] sheaf_coordinator::Error),
    /// Work did not go on.
    #[error("no batch was completed for {waited:?}; logs are in {}", logs.display())]
    Stalled {
        /// For how long.
        waited: std::time::Duration,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// An option is out of range.
    #[error("{0}")]
    Invalid(String),
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Process { .. } => Code::Unavailable,
            Error::Folder { .. } => Code::Io,
            Error::Data(_) => Code::Corrupt,
            Error::Call(error) => error.code(),
            Error::Coordinator(error) => error.code(),
            Error::Stalled { .. } => Code::DeadlineExceeded,
            Error::Invalid(_) => Code::InvalidArgument,
        }
    }
}
