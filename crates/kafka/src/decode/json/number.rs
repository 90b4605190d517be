//! Which column a JSON number fits into without loss.

/// An integer as JSON writes it, of any size.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [] => false,
        [b'0', _, ..] => false,
        _ => digits.iter().all(u8::is_ascii_digit),
    }
}

/// A number as JSON writes it.
pub(super) fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => is_integer(whole) && digits(fraction),
        None => is_integer(mantissa),
    };
    mantissa_fits
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

/// Whether an `Int64` column takes it: an integer in range, written as one.
/// Only a float has a negative zero.
pub(super) fn fits_integer(text: &str) -> bool {
    is_integer(text) && text != "-0" && (text.len() < 19 || text.parse::<i64>().is_ok())
}

/// Whether a `Float64` column takes it: a finite number, and an integer only
/// if it is exact or what a float looks like that is written without exponent.
pub(super) fn fits_float(text: &str) -> bool {
    if is_integer(text) {
        return text.len() < 16 || is_exact(text);
    }
    is_number(text) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[allow(clippy::cast_possible_truncation, reason = "that is the question")]
fn is_exact(text: &str) -> bool {
    text.parse::<i128>().is_ok_and(|value| (value as f64) as i128 == value)
        || text.parse::<f64>().is_ok_and(|value| value.is_finite() && value.to_string() == text)
}

/// Whether it is a whole number in any notation, `1.0` and `1e3` among them.
pub(super) fn is_whole(text: &str) -> bool {
    is_integer(text)
        || (is_number(text) && text.parse::<f64>().is_ok_and(|value| value.fract() == 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_only_where_they_stay_what_they_are() {
        for (text, number, integer, float, whole) in [
            ("0", true, true, true, true),
            ("-0", true, false, true, true),
            ("-12", true, true, true, true),
            ("9223372036854775807", true, true, false, true),
            ("-9223372036854775808", true, true, true, true),
            ("9223372036854775808", true, false, true, true),
            ("9007199254740992", true, true, true, true),
            ("9007199254740993", true, true, false, true),
            ("123456789012345678901234567890123456789012", true, false, false, true),
            ("3597516000000000000000000000000000", true, false, true, true),
            ("1.0", true, false, true, true),
            ("1e3", true, false, true, true),
            ("1.5", true, false, true, false),
            ("-1.5E-2", true, false, true, false),
            ("1e400", true, false, false, false),
            ("01", false, false, false, false),
            ("-", false, false, false, false),
            ("1.", false, false, false, false),
            ("1e", false, false, false, false),
            ("1-2", false, false, false, false),
            ("1e5.5", false, false, false, false),
        ] {
            assert_eq!(is_number(text), number, "{text}");
            assert_eq!(fits_integer(text), integer, "{text}");
            assert_eq!(fits_float(text), float, "{text}");
            assert_eq!(is_whole(text), whole, "{text}");
        }
    }
}
