//! Why a schema could not be had.

use std::time::Duration;

use sheaf_retry::{Code, Disposition, Retryable};

/// An error of a schema registry, or of the way there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that is none.
    #[error("{0}")]
    Invalid(String),
    /// Certificates that are no use.
    #[error("{operation}")]
    Tls {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no connection, or it broke.
    #[error("the schema registry {address} cannot be reached")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("the schema registry {address} has not answered within {limit_ms} ms")]
    Slow {
        /// Where it is.
        address: String,
        /// How long was waited.
        limit_ms: u128,
    },
    /// It does not have what was asked for.
    #[error("the schema registry has no {what}: {message}")]
    Missing {
        /// What was asked for.
        what: String,
        /// What it said.
        message: String,
    },
    /// It refuses to answer.
    #[error("the schema registry answers {path} with status {status}: {message}")]
    Status {
        /// What was asked for.
        path: String,
        /// Status of HTTP.
        status: u16,
        /// What it said.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that makes no sense.
    #[error("the schema registry answers {path} with something else: {problem}")]
    Malformed {
        /// What was asked for.
        path: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// More than is taken.
    #[error("the answer to {path} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// Bytes that are taken at most, all references together.
        limit: usize,
    },
    /// A language that is not read.
    #[error("schemas of type {kind:?} cannot be read")]
    Kind {
        /// What the registry calls it.
        kind: String,
    },
    /// A schema that refers to itself.
    #[error("version {version} of {subject} refers to itself")]
    Cycle {
        /// Its subject.
        subject: String,
        /// Its version.
        version: i32,
    },
    /// A schema that refers to more than is followed.
    #[error("it refers to more than {count} schemas, or over more than {depth} others")]
    TooMany {
        /// Schemas in a row at most.
        depth: usize,
        /// Schemas at most.
        count: usize,
    },
    /// One name for two things.
    #[error("two schemas are referred to as {name:?}")]
    Ambiguous {
        /// The name.
        name: String,
    },
}

/// What an error says, and about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing about the schema: the registry is to be asked until it answers.
    None,
    /// Perhaps something: it may be another server that answered.
    Doubtful,
    /// That the schema cannot be had.
    Final,
}

impl Error {
    pub(super) fn weight(&self) -> Weight {
        match self {
            Error::Invalid(_) | Error::Tls { .. } => Weight::None,
            Error::Unreachable { .. } | Error::Slow { .. } => Weight::None,
            // Who may not ask, or asks elsewhere, is a matter of options.
            Error::Status { status: 300..=399 | 401 | 403 | 407 | 408 | 429 | 500.., .. } => {
                Weight::None
            }
            Error::Status { .. } | Error::Malformed { .. } | Error::TooLarge { .. } => {
                Weight::Doubtful
            }
            Error::Missing { .. }
            | Error::Kind { .. }
            | Error::Cycle { .. }
            | Error::TooMany { .. }
            | Error::Ambiguous { .. } => Weight::Final,
        }
    }

    /// With its causes, in one line.
    pub(super) fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Invalid(_) | Error::Tls { .. } => Code::InvalidArgument,
            Error::Unreachable { .. } => Code::Unavailable,
            Error::Slow { .. } | Error::Status { status: 408, .. } => Code::DeadlineExceeded,
            Error::Missing { .. } | Error::Status { status: 404, .. } => Code::NotFound,
            Error::Status { status: 401 | 407, .. } => Code::Unauthenticated,
            Error::Status { status: 403, .. } => Code::PermissionDenied,
            Error::Status { status: 429, .. } => Code::Overloaded,
            Error::Status { status: 500.., .. } => Code::Unavailable,
            Error::Status { .. } => Code::FailedPrecondition,
            Error::TooLarge { .. } | Error::TooMany { .. } => Code::LimitExceeded,
            Error::Kind { .. } => Code::Unimplemented,
            Error::Malformed { .. } | Error::Cycle { .. } | Error::Ambiguous { .. } => {
                Code::MalformedData
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What makes no sense may make sense the next time.
    fn disposition(&self) -> Disposition {
        match self.weight() {
            Weight::Final => Disposition::Permanent,
            _ if matches!(self, Error::Invalid(_) | Error::Tls { .. }) => Disposition::Permanent,
            _ => Disposition::Transient { after: self.retry_after() },
        }
    }
}
