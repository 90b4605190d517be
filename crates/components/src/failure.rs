//! Errors of others as errors of components.

use std::error::Error;

use sheaf_dataflow::ComponentError;
use sheaf_retry::{Code, Retryable};

/// A value that cannot be used.
pub(crate) fn refused(why: impl Into<String>) -> ComponentError {
    ComponentError::new(Code::InvalidArgument, why)
}

/// An error that says itself whether it passes.
pub(crate) fn failed<E>(what: impl Into<String>) -> impl FnOnce(E) -> ComponentError
where
    E: Retryable + Error + Send + Sync + 'static,
{
    move |error| ComponentError::new(error.code(), what).because(error)
}

/// An error that does not.
pub(crate) fn failed_as<E>(code: Code, what: impl Into<String>) -> impl FnOnce(E) -> ComponentError
where
    E: Error + Send + Sync + 'static,
{
    move |error| ComponentError::new(code, what).because(error)
}

/// A thread that ended without an answer: a panic of a library, or the end of the runtime.
pub(crate) fn lost(error: tokio::task::JoinError) -> ComponentError {
    let code = if error.is_panic() { Code::Internal } else { Code::Cancelled };
    ComponentError::new(code, "a thread for blocking work ended without an answer").because(error)
}
