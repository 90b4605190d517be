//! A policy as people write it in a configuration file.

use serde::{Deserialize, Serialize};

use crate::{HumanDuration, Problem, RetryPolicy};

/// A [`RetryPolicy`] with human units, before it is checked.
///
/// What is left out comes from the policy given to
/// [`RawRetryPolicy::resolve`]. Durations are read by [`HumanDuration`].
///
/// ```
/// use sheaf_retry::{RawRetryPolicy, RetryPolicy};
///
/// let raw: RawRetryPolicy = serde_json::from_str(r#"{"base": "250ms", "deadline": "1m"}"#)?;
/// let policy = raw.resolve(&RetryPolicy::default()).expect("both are durations");
/// assert_eq!(policy.to_string(), "3 retries: 250ms, 500ms, 1s (±20%, within 1m)");
///
/// let raw: RawRetryPolicy = serde_json::from_str(r#"{"base": "soon", "jitter": 20}"#)?;
/// assert_eq!(raw.resolve(&RetryPolicy::default()).unwrap_err().len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRetryPolicy {
    /// Retries after the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Delay before the first retry, such as `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What the delay is multiplied with from one retry to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Longest delay, such as `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<String>,
    /// Share of the delay by which it is spread, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// No retry starts later than this after the first attempt, such as `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

impl RawRetryPolicy {
    /// The checked policy, with `default` where nothing was written.
    ///
    /// # Errors
    /// Every [`Problem`] at once: text that is no duration, and whatever
    /// [`RetryPolicy::validate`] finds in the rest.
    pub fn resolve(&self, default: &RetryPolicy) -> Result<RetryPolicy, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = |field, text: &Option<String>| {
            let text = text.as_ref()?;
            match text.parse::<HumanDuration>() {
                Ok(duration) => Some(u64::try_from(duration.0.as_millis()).unwrap_or(u64::MAX)),
                Err(error) => {
                    problems.push(Problem::new(field, error.to_string()));
                    None
                }
            }
        };
        let policy = RetryPolicy {
            max_retries: self.max_retries.unwrap_or(default.max_retries),
            base_ms: read("base", &self.base).unwrap_or(default.base_ms),
            factor: self.factor.unwrap_or(default.factor),
            cap_ms: read("cap", &self.cap).unwrap_or(default.cap_ms),
            jitter: self.jitter.unwrap_or(default.jitter),
            deadline_ms: read("deadline", &self.deadline).or(default.deadline_ms),
        };
        problems.extend(policy.validate().err().into_iter().flatten().map(as_written));
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }
}

/// The field's name in this form.
fn as_written(problem: Problem) -> Problem {
    let field = match problem.field {
        "base_ms" => "base",
        "cap_ms" => "cap",
        "deadline_ms" => "deadline",
        other => other,
    };
    Problem { field, ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default() {
        let raw = RawRetryPolicy::default();
        assert_eq!(raw.resolve(&RetryPolicy::TRANSFER), Ok(RetryPolicy::TRANSFER));
        assert_eq!(serde_json::to_string(&raw).unwrap(), "{}");
    }

    #[test]
    fn problems_name_the_fields_as_written() {
        let raw = RawRetryPolicy {
            base: Some("1h".to_owned()),
            cap: Some("quick".to_owned()),
            deadline: Some("0s".to_owned()),
            ..RawRetryPolicy::default()
        };
        let problems = raw.resolve(&RetryPolicy::QUEUE).unwrap_err();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("cap: \"quick\" is not a duration"), "{shown:?}");
        assert_eq!(shown[1], "base: the first delay, 1h, is longer than the cap of 5m");
        assert!(shown[2].starts_with("deadline: 0 leaves no time"), "{shown:?}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let read = serde_json::from_str::<RawRetryPolicy>(r#"{"base_ms": 5}"#);
        assert!(read.unwrap_err().to_string().contains("unknown field"));
    }
}
