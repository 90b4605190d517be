//! A retry policy as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When to try again: plain data, so that it travels with a batch, a
/// pipeline file or a request.
///
/// The delay before retry `n` (from 0) is `base * factor^n`, at most `cap`,
/// spread by `±jitter` of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Retries after the first attempt; 0 means that the first failure is the last.
    pub max_retries: u32,
    /// Delay before the first retry, milliseconds.
    pub base_ms: u64,
    /// What the delay is multiplied with from one retry to the next; at least 1.
    pub factor: f64,
    /// Longest delay before jitter, milliseconds.
    pub cap_ms: u64,
    /// Share of the delay by which it is spread either way, 0 to 1.
    pub jitter: f64,
    /// No retry starts later than this after the first attempt, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl Default for RetryPolicy {
    /// 3 retries from 1 s, twice as long each time, at most 5 minutes, ±20 %.
    fn default() -> Self {
        RetryPolicy {
            max_retries: 3,
            base_ms: 1_000,
            factor: 2.0,
            cap_ms: 300_000,
            jitter: 0.2,
            deadline_ms: None,
        }
    }
}

impl RetryPolicy {
    /// No retry at all.
    pub fn none() -> Self {
        RetryPolicy { max_retries: 0, ..RetryPolicy::default() }
    }

    /// The delay before retry `retry` (from 0), or `None` when the policy
    /// allows no such retry. `unit` in `[0, 1)` decides the jitter: 0.5 means none.
    pub fn delay(&self, retry: u32, unit: f64) -> Option<Duration> {
        if retry >= self.max_retries {
            return None;
        }
        let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
        let raw = (self.base_ms as f64) * self.factor.max(1.0).powi(exponent);
        let capped = raw.min(self.cap_ms as f64);
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * unit.clamp(0.0, 1.0) - 1.0);
        Some(Duration::from_secs_f64((capped * spread).max(0.0) / 1000.0))
    }
}
