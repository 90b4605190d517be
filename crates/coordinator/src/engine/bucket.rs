//! A token bucket on the engine's time, in one number that can be stored.

use sheaf_retry::Timestamp;

use super::record::Micros;
use crate::policy::RateLimit;

/// The bucket is full at `full_at` if nothing more is taken; each token that
/// is taken moves that by the time in which one comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    interval_ns: u64,
    burst: u64,
    full_at_ns: u64,
}

fn nanos(now: Timestamp) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

impl Bucket {
    /// `full_at_ns` as it was stored, or 0; it is never further away than an
    /// empty bucket takes to fill.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1e3 to 1e12")]
    pub(super) fn new(limit: RateLimit, full_at_ns: u64, now: Timestamp) -> Self {
        let interval_ns = (1e9 / limit.per_second).round().clamp(1.0, 1e12) as u64;
        let burst = u64::from(limit.burst).max(1);
        let empty = nanos(now).saturating_add(interval_ns.saturating_mul(burst));
        Bucket { interval_ns, burst, full_at_ns: full_at_ns.min(empty) }
    }

    pub(super) fn full_at_ns(&self) -> u64 {
        self.full_at_ns
    }

    /// Whole tokens that are there.
    pub(super) fn tokens(&self, now: Timestamp) -> u64 {
        let missing = self.full_at_ns.saturating_sub(nanos(now)).div_ceil(self.interval_ns);
        self.burst.saturating_sub(missing)
    }

    /// Takes one that is there.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.full_at_ns = self.full_at_ns.max(nanos(now)).saturating_add(self.interval_ns);
    }

    /// Puts one back that was taken for nothing.
    pub(super) fn give_back(&mut self) {
        self.full_at_ns = self.full_at_ns.saturating_sub(self.interval_ns);
    }

    /// When there is a token.
    pub(super) fn next(&self) -> Micros {
        let ahead = self.interval_ns.saturating_mul(self.burst - 1);
        self.full_at_ns.saturating_sub(ahead).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_come_in_at_the_rate_up_to_the_burst() {
        let start = Timestamp::from_millis(5_000);
        let mut bucket = Bucket::new(RateLimit { per_second: 4.0, burst: 3 }, 0, start);
        assert_eq!(bucket.tokens(start), 3);
        (0..3).for_each(|_| bucket.take(start));
        assert_eq!(bucket.tokens(start), 0);
        assert_eq!(bucket.next(), start.as_micros() + 250_000);
        let due = Timestamp::from_micros(bucket.next());
        assert_eq!(bucket.tokens(due), 1);
        assert_eq!(bucket.tokens(Timestamp::from_micros(due.as_micros() - 1)), 0);
        assert_eq!(bucket.tokens(start.plus(Duration::from_secs(60))), 3);
        let again = Bucket::new(RateLimit { per_second: 4.0, burst: 3 }, bucket.full_at_ns(), due);
        assert_eq!(again.tokens(due), 1, "what is stored is the whole state");
        let slower = Bucket::new(RateLimit { per_second: 1.0, burst: 1 }, u64::MAX, start);
        assert_eq!(slower.next(), start.as_micros() + 1_000_000);
    }
}
