//! What can go wrong in the automation.

use std::{io, path::PathBuf};

/// Why a task did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start `{program}`: {source}; is it installed and on PATH?")]
    Start {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("`{command}` ended with {status}{output}")]
    Failed {
        /// The whole command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it printed, where it was captured; begins with a line break.
        output: String,
    },
    /// A program's answer has another form than expected.
    #[error("cannot understand {what}: {source}")]
    Json {
        /// Whose answer.
        what: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The protocol definitions do not compile.
    #[error("protocol definitions do not compile: {0}")]
    Proto(Box<protox::Error>),
    /// Findings were printed already; this is the count for the last line.
    #[error("{task}: {count} finding(s)")]
    Findings {
        /// Which task found them.
        task: &'static str,
        /// How many.
        count: usize,
    },
    /// Anything that one sentence explains best.
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// The result of every task.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
