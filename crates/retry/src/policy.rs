//! A retry policy as data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{HumanDuration, Jitter, Problem, Schedule};

/// When to try again: plain data, so that it travels with a batch, a
/// pipeline file or a request.
///
/// The delay before retry `n` (from 0) is `base * factor^n`, at most `cap`,
/// spread by `±jitter` of itself. Every field has a default, so `{}` is the
/// policy of [`RetryPolicy::QUEUE`]; an unknown field is refused.
///
/// Any combination of values gives finite delays and never panics; whether the
/// combination makes sense is what [`RetryPolicy::validate`] says. Text that
/// people write (`base: 1s`) is [`RawRetryPolicy`](crate::RawRetryPolicy)'s.
///
/// ```
/// use sheaf_retry::RetryPolicy;
///
/// let policy: RetryPolicy = serde_json::from_str(r#"{"max_retries": 4, "cap_ms": 5000}"#)?;
/// assert_eq!(policy.to_string(), "4 retries: 1s, 2s, 4s, 5s (±20%)");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Retries after the first attempt; 0 means that the first failure is the last.
    pub max_retries: u32,
    /// Delay before the first retry, milliseconds.
    pub base_ms: u64,
    /// What the delay is multiplied with from one retry to the next; at least 1.
    pub factor: f64,
    /// Longest delay before jitter, milliseconds; also the longest hint of a
    /// server that is waited for.
    pub cap_ms: u64,
    /// Share of the delay by which it is spread either way, 0 to 1.
    pub jitter: f64,
    /// No retry starts later than this after the first attempt, milliseconds.
    /// It does not cut short an attempt that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl Default for RetryPolicy {
    /// [`RetryPolicy::QUEUE`].
    fn default() -> Self {
        RetryPolicy::QUEUE
    }
}

impl RetryPolicy {
    /// For work in a queue: 3 retries from 1 s, twice as long each time, at
    /// most 5 minutes, ±20 %.
    pub const QUEUE: RetryPolicy = RetryPolicy {
        max_retries: 3,
        base_ms: 1_000,
        factor: 2.0,
        cap_ms: 300_000,
        jitter: 0.2,
        deadline_ms: None,
    };

    /// For calls between workers while data is in flight: 3 retries from 1 s,
    /// twice as long each time, at most 30 s, ±20 %.
    pub const TRANSFER: RetryPolicy = RetryPolicy { cap_ms: 30_000, ..RetryPolicy::QUEUE };

    /// [`RetryPolicy::TRANSFER`], to change a field of.
    pub const fn transfer() -> Self {
        RetryPolicy::TRANSFER
    }

    /// No retry at all: the first failure is the last.
    pub const fn none() -> Self {
        RetryPolicy { max_retries: 0, ..RetryPolicy::QUEUE }
    }

    /// The delay before retry `retry` (from 0), or `None` when the policy
    /// allows no such retry. `unit` in `[0, 1)` decides the jitter: 0 the
    /// shortest, 0.5 none.
    pub fn delay(&self, retry: u32, unit: f64) -> Option<Duration> {
        if retry >= self.max_retries {
            return None;
        }
        let unit = if unit.is_nan() { 0.5 } else { unit.clamp(0.0, 1.0) };
        let spread = 1.0 + self.spread() * (2.0 * unit - 1.0);
        Some(millis(self.nominal_ms(retry) * spread))
    }

    /// The delay before retry `retry` (from 0) in the schedule of `seed`: the
    /// same on every machine, without the delays before it.
    ///
    /// [`Jitter::seed_of`] makes a seed of a batch id.
    pub fn delay_seeded(&self, retry: u32, seed: u64) -> Option<Duration> {
        self.delay(retry, Jitter::at(seed, retry))
    }

    /// The least delay before retry `retry` when the other side has asked to
    /// wait for `hint`: the hint, at most the cap, spread upwards only, for
    /// many clients may have been given the same one.
    pub fn hinted(&self, hint: Duration, unit: f64) -> Duration {
        let unit = if unit.is_nan() { 0.0 } else { unit.clamp(0.0, 1.0) };
        let wait = hint.min(Duration::from_millis(self.cap_ms)).as_secs_f64() * 1000.0;
        millis(wait * (1.0 + self.spread() * unit))
    }

    /// Every delay of one run, in order, with jitter from `seed`.
    pub fn schedule(&self, seed: u64) -> Schedule {
        Schedule::new(self.clone(), seed)
    }

    /// How long after the first attempt the last retry may start.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(Duration::from_millis)
    }

    /// Everything that is wrong with the policy, all at once.
    ///
    /// # Errors
    /// One [`Problem`] for each value out of its range, naming value and limit.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let problems = crate::problem::of(self);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The delay before jitter, milliseconds: finite and never negative.
    fn nominal_ms(&self, retry: u32) -> f64 {
        // 0 * infinity is not a number.
        if self.base_ms == 0 {
            return 0.0;
        }
        // `max` with a NaN gives the other operand.
        let raw = (self.base_ms as f64) * power(self.factor.max(1.0), retry);
        raw.min(self.cap_ms as f64)
    }

    fn spread(&self) -> f64 {
        if self.jitter.is_nan() { 0.0 } else { self.jitter.clamp(0.0, 1.0) }
    }
}

/// `base` to the power of `exponent`, in the same steps on every machine: what
/// replays a log of retries comes to the same delays.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Rounded to the microsecond: what a clock of ours shows.
fn millis(millis: f64) -> Duration {
    // The longest possible is twice u64::MAX milliseconds: fits, and the
    // fallback is never reached.
    let exact = Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(Duration::MAX);
    let nanos = u64::from(exact.subsec_nanos() % 1_000);
    exact.saturating_sub(Duration::from_nanos(nanos))
}

/// More delays than this are not listed one by one.
const LISTED: u32 = 12;

impl fmt::Display for RetryPolicy {
    /// The whole schedule, for instance `3 retries: 1s, 2s, 4s (±20%)`, with
    /// delays that repeat as `5m ×4`; jitter and deadline stand in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max_retries {
            0 => return f.write_str("no retries"),
            1 => f.write_str("1 retry: ")?,
            many => write!(f, "{many} retries: ")?,
        }
        let mut retry = 0;
        while retry < self.max_retries {
            let separator = if retry == 0 { "" } else { ", " };
            let nominal = self.nominal_ms(retry);
            let left = self.max_retries - retry;
            // Once the next delay is no longer than this one, none is.
            if left > 1 && self.nominal_ms(retry + 1) <= nominal {
                write!(f, "{separator}{} ×{left}", HumanDuration(millis(nominal)))?;
                break;
            }
            if retry >= LISTED {
                let last = self.nominal_ms(self.max_retries - 1);
                write!(f, "{separator}…, {}", HumanDuration(millis(last)))?;
                break;
            }
            write!(f, "{separator}{}", HumanDuration(millis(nominal)))?;
            retry += 1;
        }
        let percent = (self.spread() * 1000.0).round() / 10.0;
        match (percent > 0.0, self.deadline()) {
            (true, None) => write!(f, " (±{percent}%)"),
            (true, Some(limit)) => write!(f, " (±{percent}%, within {})", HumanDuration(limit)),
            (false, Some(limit)) => write!(f, " (within {})", HumanDuration(limit)),
            (false, None) => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
