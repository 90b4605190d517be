//! Why a worker or one attempt failed.

use sheaf_retry::{Class, Code, Retryable};

/// A worker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong; all problems of it.
    #[error("worker configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The worker was started before.
    #[error("the worker was started already")]
    Started,
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Config(_) => Code::InvalidArgument,
            Error::Started => Code::FailedPrecondition,
        }
    }
}

/// Why one attempt at a batch failed, and whether another may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProcessError {
    /// Stable code.
    pub code: Code,
    /// For people; the coordinator keeps the first 4 KiB.
    pub message: String,
    /// No retry would help.
    pub permanent: bool,
}

impl ProcessError {
    /// A failure that another attempt may not meet.
    pub fn transient(message: impl Into<String>) -> Self {
        ProcessError { code: Code::ProcessorFailed, message: message.into(), permanent: false }
    }

    /// A failure of the data itself: no further attempt.
    pub fn permanent(message: impl Into<String>) -> Self {
        ProcessError { code: Code::ProcessorFailed, message: message.into(), permanent: true }
    }

    /// Permanent or transient as the code of `error` says, with all its causes.
    pub fn from_error<E: Retryable + std::error::Error>(error: &E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        let code = error.code();
        ProcessError { code, message, permanent: code.class() == Class::Permanent }
    }
}

impl Retryable for ProcessError {
    fn code(&self) -> Code {
        self.code
    }

    fn disposition(&self) -> sheaf_retry::Disposition {
        if self.permanent {
            sheaf_retry::Disposition::Permanent
        } else {
            sheaf_retry::Disposition::Transient { after: None }
        }
    }
}
