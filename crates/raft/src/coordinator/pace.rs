//! Where the time of a new leader begins.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::backend::Time;
use sheaf_retry::{SharedClock, Timestamp};

/// A state from disk that is further behind the wall clock is taken for one that was down,
/// and not for one whose last leader had another clock.
const SKEW: Duration = Duration::from_secs(60);

/// Goes on with the time that the last leader brought, at the pace of the monotonic
/// clock: the wall clocks of two nodes differ, and a failover must not make what waits
/// due at once, however far they are apart. A state that comes from disk tells nothing of
/// how long it lay there, so the wall clock is believed.
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
    /// A leader brought it just before.
    is_fresh: bool,
}

impl Pace {
    /// Looks at the time of the state; as often as commands come, and once a second. It
    /// `came` where a leader brought it since the node was started.
    pub(super) fn see(&mut self, clock: &SharedClock, now: Timestamp, came: bool) {
        if self.seen.as_ref().is_some_and(|seen| seen.now == now) {
            return;
        }
        let is_fresh = now > Timestamp::EPOCH && (came || clock.now().since(now) <= SKEW);
        self.seen = Some(Seen { now, at: clock.elapsed(), is_fresh });
    }

    /// The time of a leader whose state is at `now`.
    pub(super) fn lead(&mut self, clock: &SharedClock, now: Timestamp, came: bool) -> Time {
        self.see(clock, now, came);
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
    /// 1,000 s and that it has had for so many seconds, from its disk or from a leader.
    fn begins(wall: u64, had: u64, came: bool) -> Timestamp {
        let manual = ManualClock::new(at(wall));
        let clock: SharedClock = manual.clone();
        let mut pace = Pace::default();
        pace.see(&clock, at(1_000), came);
        manual.advance(Duration::from_secs(had));
        pace.lead(&clock, at(1_000), came).now()
    }

    #[test]
    fn a_wall_clock_that_is_ahead_or_behind_does_not_move_the_time() {
        for came in [false, true] {
            assert_eq!(begins(1_050, 0, came), at(1_000));
            assert_eq!(begins(900, 0, came), at(1_000));
        }
        // However far it is ahead of the leader before.
        assert_eq!(begins(1_100, 0, true), at(1_000));
        assert_eq!(begins(9_000, 5, true), at(1_005));
    }

    #[test]
    fn time_without_a_command_counts() {
        assert_eq!(begins(1_000, 3_600, false), at(4_600));
        assert_eq!(begins(1_030, 3_600, true), at(4_600));
    }

    #[test]
    fn a_state_that_was_down_goes_on_at_the_wall_clock() {
        assert_eq!(begins(9_000, 1, false), at(9_001));
        let clock: SharedClock = ManualClock::new(at(7));
        assert_eq!(Pace::default().lead(&clock, Timestamp::EPOCH, false).now(), at(7));
    }
}
