//! Errors of Flight calls, and their one mapping to and from `tonic::Status`.

use std::time::Duration;

use sheaf_retry::{Class, Code, Disposition, Retryable};

/// Why a Flight call failed.
///
/// Handlers turn their own errors into this one with [`Error::from_error`];
/// it crosses the wire as a gRPC status whose message begins with the code and
/// whose trailers carry `sheaf-code` and, where there is a hint, `sheaf-retry-after-ms`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
    retry_after: Option<Duration>,
    exhausted: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a code and a text for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), retry_after: None, exhausted: false, source: None }
    }

    /// Keeps the code, the texts of the whole chain of causes and the hint of `error`.
    pub fn from_error<E>(error: E) -> Self
    where
        E: Retryable + std::error::Error + Send + Sync + 'static,
    {
        let (code, retry_after) = (error.code(), error.retry_after());
        // Retries that were used up stay used up: an outer loop must not multiply them.
        let exhausted = error.disposition() == Disposition::Exhausted;
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Error { code, message, retry_after, exhausted, source: Some(Box::new(error)) }
    }

    /// How long to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The text for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        self.code
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn disposition(&self) -> Disposition {
        match self.code.class() {
            _ if self.exhausted => Disposition::Exhausted,
            Class::Transient => Disposition::Transient { after: self.retry_after },
            Class::Permanent => Disposition::Permanent,
        }
    }
}

/// Shorthand for an error of wrong input.
pub fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}
