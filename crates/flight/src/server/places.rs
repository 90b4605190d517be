//! Who is connected, and who goes when another one wants in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_retry::SharedClock;
use tokio_util::sync::CancellationToken;

/// A connection without a call for less than this keeps its place: its client
/// may be about to make one.
const IDLE: Duration = Duration::from_secs(10);

/// All connections.
pub(super) struct Places {
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    all: HashMap<u64, Known>,
}

/// What is known of one connection.
struct Known {
    calls: usize,
    /// When it made its last call, or came.
    since: Duration,
    leave: CancellationToken,
}

impl Places {
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Places { clock, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(self: &Arc<Self>) -> Place {
        let (since, leave) = (self.clock.elapsed(), CancellationToken::new());
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.all.insert(id, Known { calls: 0, since, leave: leave.clone() });
        Place { places: Arc::clone(self), id, leave }
    }

    /// Has the connection leave that made no call for longest; whether there
    /// is one which made none for a while.
    pub(super) fn end_idlest(&self) -> bool {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let idle = state.all.values_mut().filter(|one| {
            one.calls == 0 && !one.leave.is_cancelled() && now.saturating_sub(one.since) >= IDLE
        });
        let idlest = idle.min_by_key(|one| one.since);
        idlest.map(|one| one.leave.cancel()).is_some()
    }
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: CancellationToken,
}

impl Place {
    /// Cancelled when another one needs the place.
    pub(super) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }

    /// Whether no call was under way on it for so long.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        let now = self.places.clock.elapsed();
        let state = self.places.state();
        let known = state.all.get(&self.id);
        known.is_none_or(|one| one.calls == 0 && now.saturating_sub(one.since) >= time)
    }

    /// Says that a call is under way on it.
    pub(super) fn call(&self) -> Busy {
        let busy = Busy { places: Arc::clone(&self.places), id: self.id };
        busy.count(|calls| calls + 1);
        busy
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state().all.remove(&self.id);
    }
}

/// A call under way, until it is dropped.
pub(super) struct Busy {
    places: Arc<Places>,
    id: u64,
}

impl Busy {
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let now = self.places.clock.elapsed();
        if let Some(known) = self.places.state().all.get_mut(&self.id) {
            known.calls = change(known.calls);
            known.since = now;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.count(|calls| calls.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn who_did_nothing_for_longest_goes_and_who_is_busy_stays() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let places = Places::new(clock.clone());
        let [busy, early] = [places.add(), places.add()];
        let call = busy.call();
        clock.advance(IDLE);
        let late = places.add();
        assert!(places.end_idlest() && early.leave().is_cancelled());
        assert!(!places.end_idlest(), "one is busy, one is new");
        clock.advance(IDLE);
        drop(call);
        assert!(places.end_idlest() && late.leave().is_cancelled());
        assert!(!places.end_idlest(), "its call is only just over");
        clock.advance(IDLE);
        assert!(places.end_idlest() && busy.leave().is_cancelled());
        drop([busy, early, late]);
        assert!(places.state().all.is_empty());
    }
}
