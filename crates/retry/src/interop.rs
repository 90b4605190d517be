//! The `backoff` crate's trait, both ways (feature `backoff`).
//!
//! The crate is no longer maintained (RUSTSEC-2025-0012), and it brings
//! `instant`, which is not either (RUSTSEC-2024-0384). The feature is for
//! programs that still have it in their signatures; nothing else of Sheaf
//! turns it on.

use std::time::Duration;

use backoff::backoff::Backoff;

use crate::{Delays, Disposition, Failure, Limit, RetryPolicy, Retryable, Schedule, SharedClock};

/// A [`RetryPolicy`] as their [`Backoff`].
///
/// The deadline counts from the creation, or from the last `reset`. Their
/// trait has no place for a hint; `backoff::retry` takes it from the error,
/// see [`classify`].
///
/// ```
/// use sheaf_retry::{RetryPolicy, SystemClock, interop};
///
/// let policy = RetryPolicy { base_ms: 0, ..RetryPolicy::default() };
/// let delays = interop::PolicyBackoff::new(&policy, 42, SystemClock::shared());
/// let mut attempts = 0;
/// let answer = backoff::retry(delays, || {
///     attempts += 1;
///     if attempts < 3 { Err(backoff::Error::transient("not yet")) } else { Ok("served") }
/// });
/// assert_eq!(answer.unwrap(), "served");
/// ```
#[derive(Clone, Debug)]
pub struct PolicyBackoff {
    schedule: Schedule,
    clock: SharedClock,
    start: Duration,
}

impl PolicyBackoff {
    /// The delays of `policy`, jitter from `seed`, time from `clock`.
    pub fn new(policy: &RetryPolicy, seed: u64, clock: SharedClock) -> Self {
        let start = clock.elapsed();
        PolicyBackoff { schedule: policy.schedule(seed), clock, start }
    }
}

impl Backoff for PolicyBackoff {
    fn reset(&mut self) {
        self.schedule.reset();
        self.start = self.clock.elapsed();
    }

    fn next_backoff(&mut self) -> Option<Duration> {
        let elapsed = self.clock.elapsed().saturating_sub(self.start);
        self.schedule.next_delay(Failure { elapsed, hint: None }).ok()
    }
}

/// Any [`Backoff`] of theirs, driving a [`Retry`](crate::Retry) of ours.
///
/// A hint lengthens their delay; they set no cap for it. Where they end the
/// run, the error says [`Limit::Retries`] with the retries that were made.
///
/// ```
/// use std::time::Duration;
/// use sheaf_retry::{ManualClock, Retry, Timestamp, interop};
///
/// let theirs = backoff::backoff::Constant::new(Duration::from_secs(5));
/// let clock = ManualClock::auto(Timestamp::EPOCH);
/// let answer = Retry::with_delays(interop::FromBackoff::new(theirs), clock)
///     .run_blocking_if(|attempt| if attempt < 3 { Err(attempt) } else { Ok(attempt) }, |_| true);
/// assert_eq!(answer, Ok(3));
/// ```
#[derive(Clone, Debug)]
pub struct FromBackoff<B> {
    inner: B,
    retries: u32,
}

impl<B: Backoff> FromBackoff<B> {
    /// Delays from `inner`, which is reset first.
    pub fn new(mut inner: B) -> Self {
        inner.reset();
        FromBackoff { inner, retries: 0 }
    }
}

impl<B: Backoff> Delays for FromBackoff<B> {
    fn next_delay(&mut self, failure: Failure) -> Result<Duration, Limit> {
        let planned = self.inner.next_backoff().ok_or(Limit::Retries(self.retries))?;
        self.retries = self.retries.saturating_add(1);
        Ok(planned.max(failure.hint.unwrap_or_default()))
    }
}

/// Their error, transient or permanent as ours says, with the hint.
pub fn classify<E: Retryable>(error: E) -> backoff::Error<E> {
    match error.disposition() {
        Disposition::Transient { after: None } => backoff::Error::transient(error),
        Disposition::Transient { after: Some(hint) } => backoff::Error::retry_after(error, hint),
        Disposition::Permanent | Disposition::Exhausted => backoff::Error::permanent(error),
    }
}
