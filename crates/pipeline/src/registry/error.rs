//! Why the registry refuses something.

use std::time::Duration;

use sheaf_retry::{Code, HumanDuration, Retryable};

/// An error of the registry and of what keeps it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that is not of the form asked for.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong, with actual value and limit.
        problem: String,
    },
    /// More than the registry takes.
    #[error("{field}: {actual} is over the limit of {limit}")]
    Limit {
        /// The field.
        field: &'static str,
        /// What was asked.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The registry is full.
    #[error("the registry holds {held} {what}, its limit of {limit} leaves no room for {more}")]
    Full {
        /// Of what there is too much.
        what: &'static str,
        /// What is there.
        held: u64,
        /// What was to come.
        more: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// No component or pipeline of that id.
    #[error("no {what} {id}")]
    NotFound {
        /// `component`, `place` or `pipeline`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// The token is not that of the place.
    #[error("component {id}: its token is not the one of this place; {hint}")]
    Refused {
        /// The place.
        id: String,
        /// What to do.
        hint: &'static str,
    },
    /// A live incarnation holds the place.
    #[error(
        "component {id} is held by another incarnation that lives; it can be replaced once that one deregistered, ended, or was silent for another {}", HumanDuration(*.after)
    )]
    Taken {
        /// The place.
        id: String,
        /// When it can be tried again at the earliest.
        after: Duration,
    },
    /// The caller holds the place no more.
    #[error("component {id}: {problem}; end this process")]
    Stale {
        /// The place.
        id: String,
        /// What happened to it.
        problem: &'static str,
    },
    /// The call does not fit the state of a pipeline.
    #[error("pipeline {id} {problem}")]
    Precondition {
        /// The pipeline.
        id: String,
        /// What does not fit.
        problem: String,
    },
    /// The control plane is too busy, or shutting down.
    #[error("the control plane {problem}")]
    Unavailable {
        /// What it does.
        problem: String,
        /// `overloaded` or `draining`.
        code: Code,
    },
    /// The state file failed.
    #[error("{operation}")]
    State {
        /// What was tried, on what.
        operation: String,
        /// Stable code.
        code: Code,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Invalid { .. } => Code::InvalidArgument,
            Error::Limit { .. } => Code::LimitExceeded,
            Error::Full { .. } => Code::Overloaded,
            Error::NotFound { .. } => Code::NotFound,
            Error::Refused { .. } => Code::PermissionDenied,
            Error::Taken { .. } => Code::AlreadyExists,
            Error::Stale { .. } => Code::StaleFence,
            Error::Precondition { .. } => Code::FailedPrecondition,
            Error::Unavailable { code, .. } | Error::State { code, .. } => *code,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Taken { after, .. } => Some(*after),
            _ => None,
        }
    }
}

/// Shorthand for a field that is wrong.
pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Error {
    Error::Invalid { field, problem: problem.into() }
}
