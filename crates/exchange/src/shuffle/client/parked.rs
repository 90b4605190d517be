//! Calls of readers that nobody reads from now.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;

use super::reading::Got;
use crate::shuffle::error::Error;

/// Bytes under way to each reader that it did not take yet.
pub(crate) const READ_WINDOW: u32 = 1 << 20;

/// Calls to one worker that stand still at one time. Each may hold
/// [`READ_WINDOW`] of the 64 MiB that a connection has under way: what is left is
/// for those that are read from.
const STANDING: usize = 48;

/// What a call gives, in order.
pub(crate) type Chunks = BoxStream<'static, Result<Got, Error>>;

/// Calls to one worker by the number of their reader, those first that have stood longest.
type Standing = VecDeque<(u64, Chunks)>;

/// The calls to each worker that stand still.
#[derive(Default)]
pub(crate) struct Parked {
    peers: Mutex<HashMap<Arc<str>, Standing>>,
    next: AtomicU64,
}

/// Where one reader has its call while nobody reads from it.
#[derive(Debug)]
pub(crate) struct Place {
    parked: Arc<Parked>,
    peer: Arc<str>,
    number: u64,
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").finish_non_exhaustive()
    }
}

impl Place {
    pub(crate) fn new(parked: &Arc<Parked>, peer: &str) -> Self {
        let number = parked.next.fetch_add(1, Ordering::Relaxed);
        Place { parked: Arc::clone(parked), peer: peer.into(), number }
    }

    /// Leaves a call here; the one that has stood longest is given up where they are
    /// too many.
    pub(crate) fn park(&self, call: Chunks) {
        let given_up = self.with(|calls| {
            calls.push_back((self.number, call));
            (calls.len() > STANDING).then(|| calls.pop_front())
        });
        // Its stream ends, without the lock.
        drop(given_up);
    }

    /// Leaves a call here, unless they are too many already. Whether it is here.
    pub(crate) fn try_park(&self, call: Chunks) -> bool {
        let given_up = self.with(|calls| {
            if calls.len() >= STANDING {
                return Some(call);
            }
            calls.push_back((self.number, call));
            None
        });
        given_up.is_none()
    }

    /// The call, unless it was given up.
    pub(crate) fn take(&self) -> Option<Chunks> {
        self.with(|calls| {
            let at = calls.iter().position(|(number, _)| *number == self.number)?;
            calls.remove(at).map(|(_, call)| call)
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        // Whole entries only: a panic elsewhere leaves them whole.
        let mut peers = self.parked.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = peers.entry(Arc::clone(&self.peer)).or_default();
        let changed = change(calls);
        if calls.is_empty() {
            peers.remove(&self.peer);
        }
        changed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};

    use super::*;

    fn call() -> Chunks {
        stream::pending().boxed()
    }

    #[test]
    fn who_has_stood_longest_gives_up_and_who_leaves_makes_room() {
        let parked = Arc::default();
        let places: Vec<_> = (0..=STANDING).map(|_| Place::new(&parked, "a")).collect();
        places.iter().for_each(|place| place.park(call()));
        assert!(places[0].take().is_none());
        assert!(places[1].take().is_some());
        // A new one takes no other's place.
        assert!(places[1].try_park(call()));
        assert!(!places[0].try_park(call()));
        assert!(Place::new(&parked, "b").try_park(call()));
        drop(places);
        assert!(parked.peers.lock().unwrap().is_empty());
    }
}
