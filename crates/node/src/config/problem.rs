//! What is wrong with a configuration.

use std::fmt;

use sheaf_retry::{Code, Retryable};

/// One setting that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// The setting as it was given: `--lease`, `SHEAF_LEASE` or `lease in sheaf.yaml`.
    pub place: String,
    /// What is wrong with it, and what is allowed.
    pub message: String,
}

impl Retryable for Problem {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// Every problem of a configuration, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Retryable for Problems {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => one.fmt(f),
            many => {
                write!(f, "{} problems with the configuration", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}
