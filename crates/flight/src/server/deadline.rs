//! How long a client waits for its answer.

use std::time::Duration;

use http::HeaderMap;

/// The header that says so.
const HEADER: &str = "grpc-timeout";

/// Digits of the number in it, as gRPC's protocol has it.
const MAX_DIGITS: usize = 8;

/// How long the client of these headers waits for the answer to begin; `None`
/// where it does not say so, or in no way that gRPC knows.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > MAX_DIGITS || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_of_grpc_are_read_and_nothing_else() {
        let read = |text: &'static str| {
            of(&HeaderMap::from_iter([(HEADER.parse().unwrap(), text.parse().unwrap())]))
        };
        for (text, millis) in
            [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5), ("6000u", 6)]
        {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for text in ["", "H", "1", "1h", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
