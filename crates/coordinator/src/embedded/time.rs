//! The coordinator's own time: forward only, at the pace of the monotonic clock.

use std::time::Duration;

use sheaf_retry::{SharedClock, Timestamp};

/// Time that a jump of the wall clock, either way, does not move: leases last
/// as long as they say. The difference to the wall clock is worked off at a
/// tenth of the pace.
#[derive(Debug)]
pub struct Time {
    clock: SharedClock,
    now: Timestamp,
    elapsed: Duration,
}

impl Time {
    /// Starts at the wall clock's time, but not before `last`.
    pub fn starting(clock: SharedClock, last: Timestamp) -> Self {
        let now = clock.now().max(last);
        let elapsed = clock.elapsed();
        Time { clock, now, elapsed }
    }

    /// Goes on at `now`, whatever the wall clock says; the difference is worked off.
    pub fn continuing(clock: SharedClock, now: Timestamp) -> Self {
        let elapsed = clock.elapsed();
        Time { clock, now, elapsed }
    }

    /// The time now: never before what it answered last.
    pub fn now(&mut self) -> Timestamp {
        let elapsed = self.clock.elapsed();
        let passed = elapsed.saturating_sub(self.elapsed);
        self.elapsed = elapsed;
        let expected = self.now.plus(passed);
        let wall = self.clock.now();
        let slew = passed / 10;
        self.now = if wall > expected {
            expected.plus(wall.since(expected).min(slew))
        } else {
            self.now.plus(passed.saturating_sub(expected.since(wall).min(slew)))
        };
        self.now
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Jumping {
        wall: AtomicU64,
        elapsed: AtomicU64,
    }

    impl sheaf_retry::Clock for Jumping {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn jumps_of_the_wall_clock_do_not_matter() {
        let clock = Arc::new(Jumping::default());
        clock.wall.store(1_000_000, Ordering::SeqCst);
        let shared: SharedClock = Arc::clone(&clock) as SharedClock;
        let mut time = Time::starting(shared, Timestamp::EPOCH);
        for wall in [1_010_000, 400_000, 9_000_000] {
            let before = time.now();
            clock.wall.store(wall, Ordering::SeqCst);
            clock.elapsed.fetch_add(10_000, Ordering::SeqCst);
            let passed = time.now().since(before);
            assert!(passed >= Duration::from_secs(9), "{wall}: {passed:?}");
            assert!(passed <= Duration::from_secs(11), "{wall}: {passed:?}");
        }
    }

    #[test]
    fn time_goes_on_where_it_was_stored() {
        let clock = sheaf_retry::ManualClock::new(Timestamp::from_millis(5));
        let mut time = Time::starting(clock.clone(), Timestamp::from_millis(900));
        assert_eq!(time.now(), Timestamp::from_millis(900));
        clock.advance(Duration::from_millis(100));
        assert!(time.now() >= Timestamp::from_millis(990));
    }
}
