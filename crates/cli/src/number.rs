//! Counts and rates for people.

use std::time::Duration;

/// A count with thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of a thing: `1 row`, `1,234 rows`.
pub fn counted(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {thing}{ending}", count(number))
}

/// So many in so long, per second: `12,345/s`; a dash where no time has passed.
pub fn rate(number: u64, elapsed: Duration) -> String {
    match u128::from(number) * 1_000_000 / elapsed.as_micros().max(1) {
        _ if elapsed.is_zero() => "-".to_owned(),
        per_second => format!("{}/s", count(u64::try_from(per_second).unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0, "row"), "0 rows");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_000, "row"), "1,000 rows");
    }

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(rate(5_000, Duration::from_millis(500)), "10,000/s");
        assert_eq!(rate(5, Duration::ZERO), "-");
    }
}
