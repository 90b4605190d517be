//! What can go wrong around a test.

use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use sheaf_retry::{Code, HumanDuration, Retryable};

/// A process or a condition did not do what the test waits for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried, with the names involved.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A condition did not come true in time.
    #[error("waited {} for {what}{}", HumanDuration(*.timeout), after(.output))]
    TimedOut {
        /// The condition.
        what: String,
        /// How long it was waited for.
        timeout: Duration,
        /// The last output of the process concerned; empty where there is none.
        output: String,
    },
    /// The process ended while something was still expected of it.
    #[error("{name} ended with {status} before {what}{}", after(.output))]
    Ended {
        /// The program.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// What was waited for.
        what: String,
        /// Its last output.
        output: String,
    },
    /// A server answered a command with an error.
    #[error("the server at {addr} refused {command}: {message}")]
    Refused {
        /// The server.
        addr: SocketAddr,
        /// The command, without its arguments.
        command: String,
        /// What the server said: `READONLY You can't write …`.
        message: String,
    },
}

fn after(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; its last output:\n{output}") }
}

impl Error {
    /// Wraps the operating system's error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Io { source, .. } => source.code(),
            Error::TimedOut { .. } => Code::DeadlineExceeded,
            Error::Ended { .. } => Code::Unavailable,
            Error::Refused { .. } => Code::FailedPrecondition,
        }
    }
}
