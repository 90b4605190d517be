//! Points in time and spans for people.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use sheaf_retry::{Code, Retryable, Timestamp};

/// The text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time: write RFC 3339, such as 2026-11-21T08:30:00Z")]
pub struct ParseTimeError {
    /// What was given.
    pub text: String,
}

impl Retryable for ParseTimeError {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T08:30:00.000Z`. A time beyond
/// what the calendar reaches is shown as microseconds since 1970.
pub fn rfc3339(time: Timestamp) -> String {
    i64::try_from(time.as_micros())
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_else(|| format!("{}us", time.as_micros()))
}

/// Reads RFC 3339 with any offset.
///
/// # Errors
/// [`ParseTimeError`] for anything else and for times before 1970.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, ParseTimeError> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|time| u64::try_from(time.timestamp_micros()).ok())
        .map(Timestamp::from_micros)
        .ok_or_else(|| ParseTimeError { text: text.chars().take(64).collect() })
}

/// Seen from `now`: `3s ago`, `in 5m`, `now`.
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    let (ago, ahead) = (now.since(time), time.since(now));
    if ago.max(ahead) < Duration::from_secs(1) {
        return "now".to_owned();
    }
    match ahead.is_zero() {
        true => format!("{} ago", compact(ago)),
        false => format!("in {}", compact(ahead)),
    }
}

/// A span in its largest unit, rounded down: `850ms`, `42s`, `3m`, `5h`, `12d`.
pub fn compact(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_and_never_panics() {
        let time = Timestamp::from_millis(1_763_713_800_123);
        assert_eq!(rfc3339(time), "2025-11-21T08:30:00.123Z");
        assert_eq!(parse_rfc3339(&rfc3339(time)), Ok(time));
        assert_eq!(parse_rfc3339("2025-11-21T09:30:00.123+01:00"), Ok(time));
        assert_eq!(rfc3339(Timestamp::MAX), format!("{}us", u64::MAX));
        for text in ["", "yesterday", "2025-11-21", "1969-12-31T23:59:59Z"] {
            assert!(parse_rfc3339(text).is_err(), "{text}");
        }
    }

    #[test]
    fn relative_times_take_their_largest_unit() {
        let now = Timestamp::from_millis(1_000_000_000);
        let after = |secs| now.plus(Duration::from_secs(secs));
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(now, after(3)), "3s ago");
        assert_eq!(relative(now, after(7_199)), "119m ago");
        assert_eq!(relative(after(300), now), "in 5m");
        assert_eq!(relative(now, after(864_000)), "10d ago");
        assert_eq!(compact(Duration::from_millis(850)), "850ms");
    }
}
