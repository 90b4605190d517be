//! A point in wall-clock time, as it is stored and sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// Arithmetic saturates at both ends: a time is never wrapped round.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// Later than any time that is ever reached.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Timestamp(millis.saturating_mul(1000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// This time and `by` more; stays at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }

    /// How long ago `earlier` was; zero where it is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before the epoch become the epoch.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    /// Exact for every time that the platform can show.
    fn from(time: Timestamp) -> Self {
        // The widest span that every platform's clock type can hold: half the
        // range still reaches the year 294,000.
        UNIX_EPOCH.checked_add(Duration::from_micros(time.0)).unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let one = Timestamp::from_millis(1);
        assert_eq!(one.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(one.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(u64::MAX), Timestamp::MAX);
        assert_eq!(one.plus(Duration::from_micros(7)).since(one), Duration::from_micros(7));
    }

    #[test]
    fn system_time_round_trips_to_the_microsecond() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::EPOCH);
        assert!(SystemTime::from(Timestamp::MAX) > UNIX_EPOCH);
    }

    #[test]
    fn a_bare_number_on_the_wire() {
        let time = Timestamp::from_millis(5);
        assert_eq!(serde_json::to_string(&time).unwrap(), "5000");
        assert_eq!(serde_json::from_str::<Timestamp>("5000").unwrap(), time);
    }
}
