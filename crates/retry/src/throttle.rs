//! So many a second and no more.

use std::time::Duration;

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// Bounds how often something is said: lets through at most `limit` in any
/// window of one second, and counts the others.
///
/// A window begins with the first that is let through after the one before it
/// ended. Time is what the caller passes, [`Clock::elapsed`](crate::Clock::elapsed).
///
/// ```
/// use std::time::Duration;
/// use sheaf_retry::Throttle;
///
/// let mut throttle = Throttle::new(1);
/// assert_eq!(throttle.admit(Duration::ZERO), Some(0));
/// assert_eq!(throttle.admit(Duration::from_millis(999)), None);
/// assert_eq!(throttle.admit(Duration::from_millis(1_000)), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct Throttle {
    limit: u32,
    began: Option<Duration>,
    used: u32,
    skipped: u64,
}

impl Throttle {
    /// At most `limit` in a second; 0 lets nothing through.
    pub const fn new(limit: u32) -> Self {
        Throttle { limit, began: None, used: 0, skipped: 0 }
    }

    /// Whether one more may pass at `now`: then how many were held back since
    /// the last that did, which starts that count anew.
    pub fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_sub(began) >= WINDOW) {
            (self.began, self.used) = (Some(now), 0);
        }
        if self.used >= self.limit {
            self.skipped = self.skipped.saturating_add(1);
            return None;
        }
        self.used += 1;
        Some(self.take_skipped())
    }

    /// How many were held back since the last that passed.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// [`Throttle::skipped`], and starts that count anew.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_its_count_is_given_once() {
        let mut throttle = Throttle::new(20);
        let at = Duration::from_millis;
        let passed = (0..1_000).filter(|ms| throttle.admit(at(*ms)).is_some()).count();
        assert_eq!((passed, throttle.skipped()), (20, 980));
        assert_eq!(throttle.admit(at(1_000)), Some(980));
        assert_eq!((throttle.admit(at(1_001)), throttle.take_skipped()), (Some(0), 0));
        // A clock that went back begins no window.
        assert_eq!(throttle.admit(at(0)), Some(0));
        assert_eq!(Throttle::new(0).admit(at(5)), None);
    }
}
