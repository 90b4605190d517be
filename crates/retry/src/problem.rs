//! What is wrong with a policy.

use crate::{Code, HumanDuration, RetryPolicy, Retryable};
use std::time::Duration;

/// Most retries that a validated policy may ask for: a batch that fails more
/// often than this is not going to succeed, and its history has to end.
pub const MAX_RETRIES: u32 = 1_000;

/// Longest cap that a validated policy may have: a delay beyond this is a
/// schedule's business, not a retry's.
pub const MAX_CAP: Duration = Duration::from_secs(7 * 86_400);

/// Largest factor that a validated policy may have; ten thousandfold after
/// two retries is a slip of the pen.
pub const MAX_FACTOR: f64 = 100.0;

/// One value of a policy that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Problem {
    /// The field as it is written, such as `base_ms`.
    pub field: &'static str,
    /// The value, the limit and what to write instead.
    pub message: String,
}

impl Retryable for Problem {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl Problem {
    pub(crate) fn new(field: &'static str, message: String) -> Self {
        Problem { field, message }
    }
}

/// Every problem of a policy, in the order of its fields.
pub(crate) fn of(policy: &RetryPolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |field, message| problems.push(Problem::new(field, message));
    let RetryPolicy { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms } = *policy;
    let cap = HumanDuration(Duration::from_millis(cap_ms));
    if max_retries > MAX_RETRIES {
        wrong("max_retries", format!("{max_retries} retries are over the limit of {MAX_RETRIES}"));
    }
    if base_ms > cap_ms {
        let base = HumanDuration(Duration::from_millis(base_ms));
        wrong("base_ms", format!("the first delay, {base}, is longer than the cap of {cap}"));
    }
    if !(1.0..=MAX_FACTOR).contains(&factor) {
        wrong("factor", format!("{factor} is not between 1 and {MAX_FACTOR}"));
    }
    if cap.0 > MAX_CAP {
        let limit = HumanDuration(MAX_CAP);
        wrong("cap_ms", format!("a cap of {cap} is over the limit of {limit}"));
    }
    if !(0.0..=1.0).contains(&jitter) {
        wrong("jitter", format!("{jitter} is not between 0 and 1; write 0.2 for ±20%"));
    }
    if deadline_ms == Some(0) {
        let message = "0 leaves no time for any retry; leave it out, or set max_retries to 0";
        wrong("deadline_ms", message.to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        for policy in [RetryPolicy::QUEUE, RetryPolicy::TRANSFER, RetryPolicy::none()] {
            assert_eq!(policy.validate(), Ok(()));
        }
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let policy = RetryPolicy {
            max_retries: 1_001,
            base_ms: u64::MAX,
            factor: f64::NAN,
            cap_ms: 1_000_000_000,
            jitter: 20.0,
            deadline_ms: Some(0),
        };
        let problems = policy.validate().unwrap_err();
        let fields: Vec<_> = problems.iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["max_retries", "base_ms", "factor", "cap_ms", "jitter", "deadline_ms"]);
        assert_eq!(problems[0].to_string(), "max_retries: 1001 retries are over the limit of 1000");
        assert_eq!(problems[4].code(), Code::InvalidArgument);
    }
}
