//! Where the time of a new leader begins.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::backend::Time;
use sheaf_retry::{SharedClock, Timestamp};

/// A state that is further behind the wall clock is taken for one that was down, and
/// not for one whose last leader had another clock.
const SKEW: Duration = Duration::from_secs(60);

/// Goes on with the time that the last leader brought, at the pace of the monotonic
/// clock: the wall clocks of two nodes differ, and a failover must not make what waits
/// due at once. A state that comes from disk tells nothing of how long it lay there, so
/// the wall clock is believed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The time of the state.
    now: Timestamp,
    /// When it was first seen, by the monotonic clock.
    at: Duration,
    /// Another leader brought it just before.
    is_fresh: bool,
}

impl Pace {
    /// Looks at the time of the state; as often as commands come, and once a second.
    pub(super) fn see(&mut self, clock: &SharedClock, now: Timestamp) {
        if self.seen.as_ref().is_some_and(|seen| seen.now == now) {
            return;
        }
        let is_fresh = now > Timestamp::EPOCH && clock.now().since(now) <= SKEW;
        self.seen = Some(Seen { now, at: clock.elapsed(), is_fresh });
    }

    /// The time of a leader whose state is at `now`.
    pub(super) fn lead(&mut self, clock: &SharedClock, now: Timestamp) -> Time {
        self.see(clock, now);
        match &self.seen {
            Some(seen) if seen.is_fresh => {
                let passed = clock.elapsed().saturating_sub(seen.at);
                Time::continuing(Arc::clone(clock), now.plus(passed))
            }
            _ => Time::starting(Arc::clone(clock), now),
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::ManualClock;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    /// What a leader begins with whose wall clock says `wall`, with a state that is at
    /// 1,000 s and that it has had for so many seconds.
    fn begins(wall: u64, had: u64) -> Timestamp {
        let manual = ManualClock::new(at(wall));
        let clock: SharedClock = manual.clone();
        let mut pace = Pace::default();
        pace.see(&clock, at(1_000));
        manual.advance(Duration::from_secs(had));
        pace.lead(&clock, at(1_000)).now()
    }

    #[test]
    fn a_wall_clock_that_is_ahead_or_behind_does_not_move_the_time() {
        assert_eq!(begins(1_050, 0), at(1_000));
        assert_eq!(begins(900, 0), at(1_000));
    }

    #[test]
    fn time_without_a_command_counts() {
        assert_eq!(begins(1_000, 3_600), at(4_600));
        assert_eq!(begins(1_030, 3_600), at(4_600));
    }

    #[test]
    fn a_state_that_was_down_goes_on_at_the_wall_clock() {
        assert_eq!(begins(9_000, 1), at(9_001));
        let clock: SharedClock = ManualClock::new(at(7));
        assert_eq!(Pace::default().lead(&clock, Timestamp::EPOCH).now(), at(7));
    }
}
