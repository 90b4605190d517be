//! Why a worker or one attempt failed.

use arrow_schema::ArrowError;
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

/// So that `?` does in a processor.
///
/// Permanent, since the same data meets it again. Only what does not come of
/// the data may go better the next time: i/o, memory, and an error from
/// outside Arrow, of which nothing is known.
impl From<ArrowError> for ProcessError {
    fn from(error: ArrowError) -> Self {
        let message = error.to_string();
        match error {
            ArrowError::IoError(..) | ArrowError::MemoryError(_) | ArrowError::ExternalError(_) => {
                ProcessError::transient(message)
            }
            _ => ProcessError::permanent(message),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_arrow_are_permanent_where_the_data_is_to_blame() {
        let of = |error: ArrowError| ProcessError::from(error).permanent;
        assert!(of(ArrowError::CastError("x".to_owned())));
        assert!(of(ArrowError::SchemaError("x".to_owned())));
        assert!(of(ArrowError::DivideByZero));
        let gone = std::io::ErrorKind::ConnectionReset;
        assert!(!of(ArrowError::IoError("x".to_owned(), gone.into())));
        assert!(!of(ArrowError::from_external_error("x".into())));
    }
}
