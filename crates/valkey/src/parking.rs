//! Claims that wait for work, and the wakes that reach them.
//!
//! A script that makes work leaves a mark for its queue; one process takes the
//! mark off and tries a claim, which leaves it again if there is more. A mark
//! that comes to nobody is put back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Waiter {
    number: u64,
    queues: Vec<String>,
    notify: Arc<Notify>,
    woken: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiters: Vec<Waiter>,
    /// What the listener listens for now.
    listening: BTreeSet<String>,
    /// Marks to be put back.
    unclaimed: BTreeSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    state: Mutex<State>,
    /// For the listener: somebody waits, or a mark is to be put back.
    changed: Notify,
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a wake of any of these queues from now on; the flag tells
    /// whether the listener has to be told of a queue.
    pub(crate) fn enter(self: &Arc<Self>, queues: Vec<String>) -> (Place, bool) {
        let notify = Arc::new(Notify::new());
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let is_new = !queues.iter().all(|queue| state.listening.contains(queue));
        let poke = is_new && !state.listening.is_empty();
        state.waiters.push(Waiter { number, queues, notify: Arc::clone(&notify), woken: None });
        drop(state);
        self.changed.notify_one();
        (Place { parking: Arc::clone(self), number, notify }, poke)
    }

    /// Gives a wake to somebody who waits; it is put back where there is nobody.
    pub(crate) fn wake(&self, queue: &str) {
        let mut state = self.lock();
        let waiter = state.waiters.iter_mut().find(|waiter| {
            waiter.woken.is_none() && waiter.queues.iter().any(|name| name == queue)
        });
        match waiter {
            Some(waiter) => {
                waiter.woken = Some(queue.to_owned());
                waiter.notify.notify_one();
            }
            None => {
                state.unclaimed.insert(queue.to_owned());
            }
        }
    }

    /// Everybody looks for himself: wakes may have been missed.
    pub(crate) fn wake_all(&self) {
        for waiter in &self.lock().waiters {
            waiter.notify.notify_one();
        }
    }

    /// The queues that somebody waits for, which are listened for from now on.
    pub(crate) fn listen(&self) -> Vec<String> {
        let mut state = self.lock();
        let waiting = state.waiters.iter().filter(|waiter| waiter.woken.is_none());
        state.listening = waiting.flat_map(|waiter| waiter.queues.iter().cloned()).collect();
        state.listening.iter().cloned().collect()
    }

    /// Marks that are to be put back.
    pub(crate) fn take_unclaimed(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().unclaimed).into_iter().collect()
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().waiters.len()
    }
}

/// A claim that waits; dropped, it passes on a wake that it did not use.
#[derive(Debug)]
pub(crate) struct Place {
    parking: Arc<Parking>,
    number: u64,
    notify: Arc<Notify>,
}

impl Place {
    /// Returns at a wake, also at one that came before.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// The wake is used: a claim is tried for it.
    pub(crate) fn use_wake(&self) {
        let mut state = self.parking.lock();
        if let Some(waiter) = state.waiters.iter_mut().find(|one| one.number == self.number)
            && waiter.woken.take().is_some()
        {
            drop(state);
            // It may be listened for again.
            self.parking.changed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.parking.lock();
        let Some(at) = state.waiters.iter().position(|one| one.number == self.number) else {
            return;
        };
        let waiter = state.waiters.swap_remove(at);
        let Some(queue) = waiter.woken else { return };
        let other = state
            .waiters
            .iter_mut()
            .find(|other| other.woken.is_none() && other.queues.contains(&queue));
        match other {
            Some(other) => {
                other.woken = Some(queue);
                other.notify.notify_one();
            }
            None => {
                state.unclaimed.insert(queue);
            }
        }
        drop(state);
        self.parking.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_reaches_one_and_is_passed_on_where_it_is_not_used() {
        let parking = Arc::new(Parking::default());
        let (first, poke) = parking.enter(vec!["a".to_owned(), "b".to_owned()]);
        assert!(!poke, "nobody listens yet: it will ask");
        assert_eq!(parking.listen(), ["a", "b"]);
        let (second, poke) = parking.enter(vec!["c".to_owned(), "b".to_owned()]);
        assert!(poke, "c is not listened for");
        parking.wake("b");
        first.woken().await;
        assert_eq!(parking.listen(), ["b", "c"], "who is woken no longer listens");
        drop(first);
        second.woken().await;
        second.use_wake();
        parking.wake("a");
        assert_eq!(parking.take_unclaimed(), ["a"]);
        parking.wake("c");
        drop(second);
        assert_eq!(parking.take_unclaimed(), ["c"]);
        assert_eq!(parking.len(), 0);
    }
}
