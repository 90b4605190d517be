//! Places whose payloads cannot be had right now.
//!
//! A server that is away says nothing about the data. Batches of it are given
//! back without a charge, and rest: the longer the server is away the longer,
//! so that work of other servers goes on meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sheaf_retry::{RetryPolicy, SharedClock};

/// Most places that are remembered; the one that is tried again first makes room.
const MAX_PLACES: usize = 1_024;

/// Half a second, doubling to ten.
const POLICY: RetryPolicy = RetryPolicy {
    max_retries: u32::MAX,
    base_ms: 500,
    factor: 2.0,
    cap_ms: 10_000,
    jitter: 0.0,
    deadline_ms: None,
};

#[derive(Clone, Copy, Debug)]
struct Rest {
    failures: u32,
    until: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rests {
    clock: SharedClock,
    places: Mutex<HashMap<String, Rest>>,
}

impl Rests {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Rests { clock, places: Mutex::default() }
    }

    /// How much longer a place is left alone; `None` where it may be tried.
    pub(crate) fn left(&self, place: &str) -> Option<Duration> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let left = places.get(place)?.until.saturating_sub(self.clock.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// A place did not answer: how long it is left alone now. Attempts that
    /// were under way when another one failed do not make it longer.
    pub(crate) fn failed(&self, place: &str) -> Duration {
        let now = self.clock.elapsed();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = match places.get(place) {
            Some(rest) if rest.until > now => return rest.until - now,
            Some(rest) => rest.failures,
            None => 0,
        };
        if failures == 0 && places.len() >= MAX_PLACES {
            let first = places.iter().min_by_key(|(_, rest)| rest.until);
            if let Some(first) = first.map(|(place, _)| place.clone()) {
                places.remove(&first);
            }
        }
        let delay = POLICY.delay(failures, 0.5).unwrap_or(Duration::from_millis(POLICY.cap_ms));
        let rest = Rest { failures: failures.saturating_add(1), until: now + delay };
        places.insert(place.to_owned(), rest);
        delay
    }

    /// A place answered.
    pub(crate) fn reached(&self, place: &str) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{ManualClock, Timestamp};

    #[test]
    fn a_place_rests_longer_each_time_until_it_answers() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let rests = Rests::new(clock.clone());
        assert_eq!(rests.left("a"), None);
        for millis in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let delay = Duration::from_millis(millis);
            assert_eq!(rests.failed("a"), delay);
            assert_eq!(rests.failed("a"), delay, "the same outage");
            assert_eq!((rests.left("a"), rests.left("b")), (Some(delay), None));
            clock.advance(delay);
            assert_eq!(rests.left("a"), None, "one may try");
        }
        rests.reached("a");
        assert_eq!(rests.failed("a"), Duration::from_millis(500));
    }

    #[test]
    fn places_are_bounded() {
        let rests = Rests::new(ManualClock::new(Timestamp::EPOCH));
        for n in 0..2 * MAX_PLACES {
            rests.failed(&n.to_string());
        }
        assert_eq!(rests.places.lock().unwrap().len(), MAX_PLACES);
    }
}
