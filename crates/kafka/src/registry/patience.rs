//! How long a registry is asked, by what it says.

use std::time::Duration;

use sheaf_retry::{Jitter, RetryPolicy, Retryable as _};

use super::Error;
use super::error::Weight;

/// While it does not answer: it is asked for ever.
const SILENCE: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 250, cap_ms: 10_000, ..RetryPolicy::QUEUE };

/// While its answers make no sense, before that is believed.
const NONSENSE: RetryPolicy = RetryPolicy { max_retries: 3, base_ms: 500, ..RetryPolicy::QUEUE };

/// The failures so far of one question.
#[derive(Debug)]
pub(super) struct Patience {
    seed: u64,
    silences: u32,
    doubts: u32,
}

impl Patience {
    pub(super) fn new(id: u32) -> Self {
        Patience { seed: u64::from(id), silences: 0, doubts: 0 }
    }

    /// Whether anything failed.
    pub(super) fn was_tried(&self) -> bool {
        self.silences + self.doubts > 0
    }

    /// How long to wait before it is asked again; none where it is believed.
    pub(super) fn after(&mut self, error: &Error) -> Option<Duration> {
        let (policy, failures) = match error.weight() {
            Weight::Final => return None,
            Weight::Doubtful => (NONSENSE, &mut self.doubts),
            Weight::None => (SILENCE, &mut self.silences),
        };
        let wait = policy.delay_seeded(*failures, self.seed)?;
        let hint =
            error.retry_after().map(|hint| SILENCE.hinted(hint, Jitter::at(self.seed, *failures)));
        *failures = failures.saturating_add(1);
        Some(wait.max(hint.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<Duration>) -> Error {
        Error::Status { path: "/".into(), status, message: String::new(), retry_after }
    }

    #[test]
    fn a_registry_that_is_down_is_asked_for_ever_and_its_hint_is_kept() {
        let mut patience = Patience::new(7);
        assert!(!patience.was_tried());
        for round in 0..10_000 {
            let down = status([301, 401, 403, 429, 500, 503][round % 6], None);
            let wait = patience.after(&down).unwrap();
            assert!(wait <= Duration::from_secs(12), "{round}: {wait:?}");
        }
        let second = Duration::from_secs(1);
        let hint = Patience::new(7).after(&status(429, Some(8 * second))).unwrap();
        assert!(hint >= 8 * second, "{hint:?}");
        let parked = Patience::new(7).after(&status(503, Some(86_400 * second))).unwrap();
        assert!(parked <= 12 * second, "{parked:?}");
    }

    #[test]
    fn nonsense_is_believed_the_fourth_time_and_a_no_of_the_registry_at_once() {
        let mut patience = Patience::new(7);
        let nonsense = [status(404, None), status(400, None)];
        let malformed = Error::Malformed { path: "/".into(), problem: String::new() };
        assert!(patience.after(&nonsense[0]).is_some());
        // In between it was down, which says nothing.
        assert!(patience.after(&status(503, None)).is_some());
        assert!(patience.after(&nonsense[1]).is_some());
        assert!(patience.after(&malformed).is_some());
        assert_eq!(patience.after(&malformed), None);
        let missing = Error::Missing { what: "schema 7".into(), message: String::new() };
        assert_eq!(Patience::new(7).after(&missing), None);
    }
}
