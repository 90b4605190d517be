//! The delays of one run: what decides whether there is another attempt.

use std::fmt;
use std::time::Duration;

use crate::{HumanDuration, Jitter, RetryPolicy};

/// What is known when an attempt has failed and might be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Since the first attempt began.
    pub elapsed: Duration,
    /// How long the other side asks to wait.
    pub hint: Option<Duration>,
}

/// Why there is no further attempt although the error is transient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// As many retries as allowed were made: this many.
    Retries(u32),
    /// The next retry would start later than this after the first attempt.
    Deadline(Duration),
    /// The failed call had itself used up its retries.
    Inner,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Retries(0) => f.write_str("no retries are allowed"),
            Limit::Retries(1) => f.write_str("the one retry allowed is used up"),
            Limit::Retries(limit) => write!(f, "all {limit} retries are used up"),
            Limit::Deadline(limit) => {
                write!(f, "the next retry would miss the deadline of {}", HumanDuration(*limit))
            }
            Limit::Inner => f.write_str("the call has used up its own retries"),
        }
    }
}

/// What drives a run of retries: a [`Schedule`], or another crate's backoff.
///
/// 1. `next_delay` is called once for each transient failure, in order.
/// 2. `Ok(delay)` promises that a retry starting after `delay` keeps every limit.
/// 3. It does not wait and reads no clock: the time is in its argument.
/// 4. Once it has given `Err`, it is not asked again.
pub trait Delays {
    /// How long to wait before the next retry.
    ///
    /// # Errors
    /// The [`Limit`] that forbids another retry.
    fn next_delay(&mut self, failure: Failure) -> Result<Duration, Limit>;
}

/// The delays of a [`RetryPolicy`] for one seed.
///
/// As an iterator it gives every delay without regard to time. As [`Delays`]
/// it also keeps the deadline and waits at least as long as a hint says, the
/// hint being held to the policy's cap.
///
/// ```
/// use sheaf_retry::RetryPolicy;
///
/// let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
/// let seconds: Vec<u64> = policy.schedule(7).map(|delay| delay.as_secs()).collect();
/// assert_eq!(seconds, [1, 2, 4]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    policy: RetryPolicy,
    seed: u64,
    retry: u32,
}

impl Schedule {
    pub(crate) fn new(policy: RetryPolicy, seed: u64) -> Self {
        Schedule { policy, seed, retry: 0 }
    }

    /// How many delays were given out.
    pub fn retries(&self) -> u32 {
        self.retry
    }

    /// Starts over, with the same delays.
    pub fn reset(&mut self) {
        self.retry = 0;
    }
}

impl Delays for Schedule {
    fn next_delay(&mut self, failure: Failure) -> Result<Duration, Limit> {
        let unit = Jitter::at(self.seed, self.retry);
        let planned = self.policy.delay(self.retry, unit);
        let planned = planned.ok_or(Limit::Retries(self.policy.max_retries))?;
        let hinted = failure.hint.map(|hint| self.policy.hinted(hint, unit));
        let delay = planned.max(hinted.unwrap_or_default());
        if let Some(limit) = self.policy.deadline()
            && failure.elapsed.saturating_add(delay) > limit
        {
            return Err(Limit::Deadline(limit));
        }
        self.retry += 1;
        Ok(delay)
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.policy.delay_seeded(self.retry, self.seed)?;
        self.retry += 1;
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.policy.max_retries.saturating_sub(self.retry));
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(elapsed_ms: u64, hint_ms: Option<u64>) -> Failure {
        Failure {
            elapsed: Duration::from_millis(elapsed_ms),
            hint: hint_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn a_hint_lengthens_a_delay_and_never_shortens_it() {
        let policy = RetryPolicy { jitter: 0.0, cap_ms: 10_000, ..RetryPolicy::default() };
        let mut schedule = policy.schedule(0);
        assert_eq!(schedule.next_delay(failure(0, Some(100))), Ok(Duration::from_secs(1)));
        assert_eq!(schedule.next_delay(failure(0, Some(5_000))), Ok(Duration::from_secs(5)));
        assert_eq!(schedule.next_delay(failure(0, Some(60_000))), Ok(Duration::from_secs(10)));
        assert_eq!(schedule.next_delay(failure(0, None)), Err(Limit::Retries(3)));
        assert_eq!(schedule.retries(), 3);
    }

    #[test]
    fn a_retry_that_would_start_past_the_deadline_is_not_waited_for() {
        let policy =
            RetryPolicy { jitter: 0.0, deadline_ms: Some(1_500), ..RetryPolicy::default() };
        let deadline = Err(Limit::Deadline(Duration::from_millis(1_500)));
        let mut schedule = policy.schedule(0);
        assert_eq!(schedule.next_delay(failure(501, None)), deadline);
        assert_eq!(schedule.next_delay(failure(0, Some(1_501))), deadline);
        assert_eq!(schedule.next_delay(failure(500, None)), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn reset_gives_the_same_delays_again() {
        let mut schedule = RetryPolicy::default().schedule(3);
        assert_eq!(schedule.size_hint(), (3, Some(3)));
        let first: Vec<_> = schedule.by_ref().collect();
        schedule.reset();
        assert_eq!(schedule.collect::<Vec<_>>(), first);
    }
}
