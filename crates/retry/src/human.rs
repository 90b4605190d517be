//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{Code, Retryable};

/// A duration that reads and prints as `250ms`, `1.5s`, `4m16s` or `1h30m`.
///
/// Units: `us`, `ms`, `s`, `m`, `h`, `d` (24 hours), largest first when there
/// are several; a fraction is allowed in the last part. `0` needs no unit.
/// Printing is exact down to the microsecond and can be parsed again.
///
/// ```
/// use std::time::Duration;
/// use sheaf_retry::HumanDuration;
///
/// let lease: HumanDuration = "1m30s".parse()?;
/// assert_eq!(lease.0, Duration::from_secs(90));
/// assert_eq!(lease.to_string(), "1m30s");
/// # Ok::<(), sheaf_retry::DurationError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write a number and a unit, such as 250ms, 5s, 1m30s or 1h")]
pub struct DurationError {
    /// What was given.
    pub text: String,
}

impl Retryable for DurationError {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// In microseconds.
const SECOND: u64 = 1_000_000;

/// Units with their length in microseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", SECOND),
    ("ms", 1_000),
    ("us", 1),
];

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, micros) in UNITS {
            // From seconds on, smaller units become a fraction: 1.5s, not 1s500ms.
            if micros <= SECOND && left >= micros {
                let (whole, fraction) = (left / micros, left % micros);
                if fraction == 0 {
                    return write!(f, "{whole}{unit}");
                }
                let width = if micros == SECOND { 6 } else { 3 };
                let digits = format!("{fraction:0width$}");
                return write!(f, "{whole}.{}{unit}", digits.trim_end_matches('0'));
            }
            let whole = left / micros;
            left %= micros;
            if whole > 0 {
                write!(f, "{whole}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    /// # Errors
    /// [`DurationError`] for anything that is not of the form above, negative
    /// numbers and durations over 584,000 years included.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text.trim())
            .map(|micros| HumanDuration(Duration::from_micros(micros)))
            .ok_or_else(|| DurationError { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        // Consumes the larger units as well: they may not follow any more.
        let (_, micros) = units.find(|(unit, _)| *unit == name)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.contains('.') && (fraction.is_empty() || !after.is_empty()) {
            return None;
        }
        total = total.checked_add(whole.parse::<u64>().ok()?.checked_mul(*micros)?)?;
        total = total.checked_add(fraction_of(fraction, *micros)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// `0.fraction` of `micros`, cut off below one microsecond.
fn fraction_of(fraction: &str, micros: u64) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(micros) / scale;
    u64::try_from(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_people_write() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1us"),
            (1_500, "1.5ms"),
            (133_896, "133.896ms"),
            (250_000, "250ms"),
            (1_000_000, "1s"),
            (1_500_000, "1.5s"),
            (1_000_001, "1.000001s"),
            (256_000_000, "4m16s"),
            (300_000_000, "5m"),
            (5_400_000_000, "1h30m"),
            (90_000_000_000, "1d1h"),
        ] {
            assert_eq!(HumanDuration(Duration::from_micros(micros)).to_string(), text);
            assert_eq!(parse(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn reads_what_people_write() {
        for (text, micros) in [("0", 0), ("0.5h", 1_800_000_000), (" 5s ", 5_000_000)] {
            let read: HumanDuration = text.parse().unwrap();
            assert_eq!(read.0, Duration::from_micros(micros));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1 s",
            "1s1m",
            "1s1s",
            "1.s",
            ".5s",
            "1.5m3s",
            "1..5s",
            "1x",
            "1.5.5s",
            "99999999999999999999s",
            "999999999999d",
            "1e3s",
            "５s",
        ] {
            let refused = text.parse::<HumanDuration>();
            assert!(refused.is_err(), "{text:?} read as {refused:?}");
        }
    }
}
