//! What a run of retries ends with when it does not succeed.

use std::time::Duration;

use crate::{Code, Disposition, HumanDuration, Limit, Retryable};

/// A call failed for good: its last error, and what was tried.
///
/// The code is that of the last error. The disposition is never transient: an
/// outer `retry` does not multiply the attempts of an inner one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// Transient to the end, and a limit was reached.
    #[error("gave up after {} in {}: {limit}", tries(*.attempts), HumanDuration(*.elapsed))]
    Exhausted {
        /// Calls made, the first one included.
        attempts: u32,
        /// From the start of the first attempt to the end of the last.
        elapsed: Duration,
        /// What forbade another one.
        limit: Limit,
        /// The last attempt's error.
        #[source]
        source: E,
    },
    /// The last attempt failed with an error that is not to be retried.
    #[error("failed for good after {} in {}", tries(*.attempts), HumanDuration(*.elapsed))]
    Permanent {
        /// Calls made, the first one included.
        attempts: u32,
        /// From the start of the first attempt to the end of the last.
        elapsed: Duration,
        /// The last attempt's error.
        #[source]
        source: E,
    },
}

fn tries(attempts: u32) -> String {
    let noun = if attempts == 1 { "attempt" } else { "attempts" };
    format!("{attempts} {noun}")
}

impl<E> Error<E> {
    /// Calls made, the first one included.
    pub fn attempts(&self) -> u32 {
        match self {
            Error::Exhausted { attempts, .. } | Error::Permanent { attempts, .. } => *attempts,
        }
    }

    /// From the start of the first attempt to the end of the last.
    pub fn elapsed(&self) -> Duration {
        match self {
            Error::Exhausted { elapsed, .. } | Error::Permanent { elapsed, .. } => *elapsed,
        }
    }

    /// The last attempt's error.
    pub fn last(&self) -> &E {
        match self {
            Error::Exhausted { source, .. } | Error::Permanent { source, .. } => source,
        }
    }

    /// The last attempt's error alone.
    pub fn into_last(self) -> E {
        match self {
            Error::Exhausted { source, .. } | Error::Permanent { source, .. } => source,
        }
    }
}

impl<E: Retryable> Retryable for Error<E> {
    fn code(&self) -> Code {
        self.last().code()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.last().retry_after()
    }

    fn disposition(&self) -> Disposition {
        match self {
            Error::Exhausted { .. } => Disposition::Exhausted,
            Error::Permanent { .. } => Disposition::Permanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::io;

    #[test]
    fn says_what_was_tried_and_leaves_the_cause_to_the_source() {
        let error = Error::Exhausted {
            attempts: 4,
            elapsed: Duration::from_millis(7_250),
            limit: Limit::Retries(3),
            source: io::Error::from(io::ErrorKind::ConnectionRefused),
        };
        assert_eq!(
            error.to_string(),
            "gave up after 4 attempts in 7.25s: all 3 retries are used up"
        );
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.disposition(), Disposition::Exhausted);
    }

    #[test]
    fn a_permanent_error_is_told_from_an_exhausted_one() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::Permanent { attempts: 1, elapsed: Duration::ZERO, source };
        assert_eq!(error.to_string(), "failed for good after 1 attempt in 0s");
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert_eq!(error.into_last().kind(), io::ErrorKind::NotFound);
    }
}
