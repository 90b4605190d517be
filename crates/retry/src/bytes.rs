//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use crate::{Code, Retryable};

/// A size that reads as `4096`, `64KB`, `100MB`, `1.5GiB` and prints as `1.5 MB`.
///
/// Decimal units (`KB` `MB` `GB` `TB`, powers of 1,000) and binary ones (`KiB`
/// `MiB` `GiB` `TiB`, powers of 1,024) are told apart; upper and lower case
/// are not; a number alone is bytes. Printing rounds to three digits.
///
/// ```
/// use sheaf_retry::HumanBytes;
///
/// assert_eq!("100MB".parse(), Ok(HumanBytes(100_000_000)));
/// assert_eq!("1.5 GiB".parse(), Ok(HumanBytes(1_610_612_736)));
/// assert_eq!(HumanBytes(100_000_000).to_string(), "100 MB");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanBytes(pub u64);

/// The text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a size: write a number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 100MB"
)]
pub struct BytesError {
    /// What was given, cut at 64 characters.
    pub text: String,
}

impl Retryable for BytesError {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl FromStr for HumanBytes {
    type Err = BytesError;

    /// # Errors
    /// [`BytesError`] for anything else, and for sizes over 16 EiB.
    fn from_str(text: &str) -> Result<Self, BytesError> {
        parse(text.trim())
            .map(HumanBytes)
            .ok_or_else(|| BytesError { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.ends_with('.') || fraction.len() > 9 {
        return None;
    }
    let mut bytes = u128::from(whole.parse::<u64>().ok()?) * u128::from(*factor);
    if !fraction.is_empty() {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        bytes += u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor) / scale;
    }
    u64::try_from(bytes).ok()
}

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{} B", self.0);
        for (name, factor) in
            [("KB", 1_000_u64), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)]
        {
            if self.0 < factor {
                break;
            }
            // Three digits: 1.23, 12.3, 123. Rounding up to 1000 is left to the next unit's turn.
            let hundredths = u128::from(self.0) * 100 / u128::from(factor);
            let (whole, part) = (hundredths / 100, hundredths % 100);
            text = match whole {
                0..10 if !part.is_multiple_of(10) => format!("{whole}.{part:02} {name}"),
                0..100 if part >= 10 => format!("{whole}.{} {name}", part / 10),
                _ => format!("{whole} {name}"),
            };
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families_of_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KB", 64_000),
            ("64kib", 65_536),
            (" 1.5 GB ", 1_500_000_000),
            ("0.5MiB", 524_288),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(HumanBytes(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_is_allowed() {
        for text in [
            "",
            "MB",
            "-1MB",
            "1,5GB",
            "1.",
            "1.MB",
            ".5MB",
            "1MBit",
            "1 2",
            "16777216TiB",
            "1.2.3KB",
        ] {
            let refused = text.parse::<HumanBytes>();
            assert!(refused.is_err(), "{text:?} read as {refused:?}");
        }
        let error = "12 parsecs".parse::<HumanBytes>().unwrap_err().to_string();
        assert!(error.contains("12 parsecs") && error.contains("100MB"), "{error}");
    }

    #[test]
    fn prints_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 KB"),
            (1_230, "1.23 KB"),
            (1_500_000, "1.5 MB"),
            (1_050_000, "1.05 MB"),
            (12_345_678, "12.3 MB"),
            (123_456_789, "123 MB"),
            (999_999, "999 KB"),
            (5_000_000_000_000_000, "5000 TB"),
        ] {
            assert_eq!(HumanBytes(bytes).to_string(), text);
        }
    }
}
