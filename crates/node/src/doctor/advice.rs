//! Words that several checks share.

use std::time::Duration;

/// A span with the digits that tell: `0.42 ms`, `12 ms`, `3.1 s`.
pub(super) fn span(span: Duration) -> String {
    let ms = span.as_secs_f64() * 1_000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

/// The middle one of sorted values.
pub(super) fn median(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// A span in milliseconds, to the microsecond, for programs.
pub(super) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_medians() {
        let ms = Duration::from_millis;
        assert_eq!(span(Duration::from_micros(420)), "0.42 ms");
        assert_eq!((span(ms(12)).as_str(), span(ms(3_100)).as_str()), ("12 ms", "3.1 s"));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[ms(1), ms(2), ms(9)]), Some(ms(2)));
        assert_eq!(median(&[ms(1), ms(2)]), Some(ms(1)));
        assert_eq!(millis(Duration::from_micros(1_500)), 1.5);
    }
}
