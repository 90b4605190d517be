//! Errors that say whether to try again.

use std::time::Duration;

use crate::{Class, Code};

/// What to do with a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, not before the hint where there is one.
    Transient {
        /// How long the other side asks to wait.
        after: Option<Duration>,
    },
    /// The same call fails again.
    Permanent,
    /// Retries were made and are used up.
    Exhausted,
}

/// An error that classifies itself.
pub trait Retryable {
    /// The stable code.
    fn code(&self) -> Code;

    /// How long the other side asks to wait before the next attempt.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// What to do; by default what the code's class says.
    fn disposition(&self) -> Disposition {
        match self.code().class() {
            Class::Transient => Disposition::Transient { after: self.retry_after() },
            Class::Permanent => Disposition::Permanent,
        }
    }
}
