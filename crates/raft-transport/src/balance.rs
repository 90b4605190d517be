//! Which of a peer's addresses to use: a pure function of what is known of them.

use std::time::Duration;

/// Bytes under way on an address that count as one more round trip.
const BYTES_PER_ROUND_TRIP: u64 = 256 << 10;
/// A round trip that was measured so long ago counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// As good as none: an address that answers faster is not preferred for it.
const LEAST: Duration = Duration::from_micros(50);

/// What is known of an address that can be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) round_trip: Duration,
    /// When that was measured.
    pub(crate) measured: Duration,
    /// Bytes that were sent there and not answered yet.
    pub(crate) outstanding: u64,
}

impl Known {
    /// How long a message would take about, in microseconds.
    fn cost(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.measured).as_secs_f64() / HALF_LIFE.as_secs_f64();
        // One that is not used gets another chance after a while.
        let round_trip = self.round_trip.as_secs_f64() * 0.5_f64.powf(age.min(64.0));
        let round_trip = round_trip.max(LEAST.as_secs_f64());
        round_trip * (1.0 + self.outstanding as f64 / BYTES_PER_ROUND_TRIP as f64)
    }
}

/// The best of those that can be used; the earlier one of two that are as good.
pub(crate) fn best(known: impl Iterator<Item = (usize, Known)>, now: Duration) -> Option<usize> {
    known
        .map(|(index, known)| (index, known.cost(now)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(millis: u64, measured: u64, outstanding: u64) -> Known {
        let measured = Duration::from_secs(measured);
        Known { round_trip: Duration::from_millis(millis), measured, outstanding }
    }

    fn pick(all: &[Known], now: u64) -> Option<usize> {
        best(all.iter().copied().enumerate(), Duration::from_secs(now))
    }

    #[test]
    fn the_faster_address_is_used_until_too_much_waits_there() {
        assert_eq!(pick(&[known(50, 0, 0), known(1, 0, 0)], 0), Some(1));
        assert_eq!(pick(&[known(1, 0, 0), known(1, 0, 0)], 0), Some(0));
        assert_eq!(pick(&[known(1, 0, 1 << 20), known(1, 0, 0)], 0), Some(1));
        assert_eq!(pick(&[known(1, 0, 1 << 20), known(50, 0, 0)], 0), Some(0));
        assert_eq!(pick(&[], 0), None);
    }

    #[test]
    fn an_address_that_was_slow_long_ago_is_tried_again() {
        assert_eq!(pick(&[known(50, 0, 0), known(1, 60, 0)], 60), Some(0));
        assert_eq!(pick(&[known(50, 55, 0), known(1, 60, 0)], 60), Some(1));
    }
}
