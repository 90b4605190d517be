//! Keeps every payload for a while, whatever becomes of its batch.
//!
//! A backup names payloads first and copies them later. In between none of
//! them may go, although their batches complete, their time runs out and
//! clients delete them. So:
//!
//! 1. A payload that is there when [`Store::hold`] returns is there until the
//!    hold ends. It can be condemned before, or after, and nothing in between:
//!    both look under one lock.
//! 2. A hold ends when it is dropped, or when its lifetime has passed since it
//!    was last renewed: whoever took it and stands still does not fill the
//!    disk. That is counted, and its holder is told at the next renewal.
//! 3. Meanwhile what expires waits; a deletion by a call is refused with
//!    `overloaded` and a hint when to come back. Both go on by themselves
//!    once the last hold has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_retry::Timestamp;

use super::entry::Entry;
use super::{Inner, Store};
use crate::error::Error;

/// Holds at one time; more are refused.
pub(crate) const MAX_HOLDS: usize = 16;

/// Every hold that stands, by the store's monotonic time at which it ends.
#[derive(Default)]
pub(crate) struct Holds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    ends: BTreeMap<u64, Duration>,
}

impl Holds {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long the last of them stands at the most; `None` where there is none.
    fn left(&self, now: Duration) -> Option<Duration> {
        let end = self.ends.values().max()?;
        Some(end.saturating_sub(now)).filter(|left| !left.is_zero())
    }
}

/// Keeps every payload of a [`Store`] while it lives and is renewed.
///
/// ```
/// use std::time::Duration;
///
/// use sheaf_retry::SystemClock;
/// use sheaf_store::{Options, Store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let store = Store::open(Options::new(SystemClock::shared())).await?;
/// let hold = store.hold(Duration::from_secs(60))?;
/// assert_eq!(store.stats().holds, 1);
/// hold.renew()?; // for another minute
/// drop(hold);
/// assert_eq!(store.stats().holds, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Hold {
    inner: Arc<Inner>,
    number: u64,
    lifetime: Duration,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("number", &self.number)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Keeps every payload that is there until the hold ends: when it is
    /// dropped, or `lifetime` after it was taken or last renewed.
    ///
    /// # Errors
    /// [`Error::TooManyHolds`]; [`Error::Closed`].
    pub fn hold(&self, lifetime: Duration) -> Result<Hold, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        inner.end_holds();
        let mut state = inner.holds.state();
        if state.ends.len() >= MAX_HOLDS {
            return Err(Error::TooManyHolds { limit: MAX_HOLDS });
        }
        state.last += 1;
        let number = state.last;
        state.ends.insert(number, inner.clock.elapsed().saturating_add(lifetime));
        inner.metrics.holds.set(i64::try_from(state.ends.len()).unwrap_or(i64::MAX));
        drop(state);
        Ok(Hold { inner: Arc::clone(inner), number, lifetime })
    }
}

impl Hold {
    /// The lifetime begins anew.
    ///
    /// # Errors
    /// [`Error::HoldLost`] where it had passed: payloads may have gone.
    pub fn renew(&self) -> Result<(), Error> {
        let now = self.inner.clock.elapsed();
        let lost = Error::HoldLost { lifetime: self.lifetime };
        self.inner.end_holds();
        match self.inner.holds.state().ends.get_mut(&self.number) {
            Some(end) => {
                *end = now.saturating_add(self.lifetime);
                Ok(())
            }
            None => Err(lost),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.inner.holds.state();
        state.ends.remove(&self.number);
        self.inner.metrics.holds.set(i64::try_from(state.ends.len()).unwrap_or(i64::MAX));
        drop(state);
        // What was to expire meanwhile need not wait any longer.
        self.inner.index.due.notify_one();
    }
}

impl Inner {
    /// How long payloads are held still, should nobody renew it.
    pub(crate) fn held_for(&self) -> Option<Duration> {
        self.end_holds();
        self.holds.state().left(self.clock.elapsed())
    }

    /// Holds that stand.
    pub(crate) fn holds(&self) -> u64 {
        self.end_holds();
        self.holds.state().ends.len() as u64
    }

    /// As [`Entry::condemn`], unless payloads are held.
    pub(crate) fn condemn(
        &self,
        entry: &Entry,
        unused_since: Option<Timestamp>,
    ) -> Result<Option<u64>, Error> {
        self.end_holds();
        let state = self.holds.state();
        match state.left(self.clock.elapsed()) {
            Some(left) => {
                self.metrics.postponed.inc();
                Err(Error::Held { id: entry.as_put().id.clone(), left })
            }
            // Still under the lock: a hold that comes now finds it gone.
            None => Ok(entry.condemn(unused_since)),
        }
    }

    /// Forgets those whose lifetime has passed.
    fn end_holds(&self) {
        let now = self.clock.elapsed();
        let mut state = self.holds.state();
        let before = state.ends.len();
        state.ends.retain(|_, end| *end > now);
        let ran_out = before - state.ends.len();
        if ran_out > 0 {
            self.metrics.holds_lost.inc_by(ran_out as u64);
            self.metrics.holds.set(i64::try_from(state.ends.len()).unwrap_or(i64::MAX));
            tracing::warn!(ran_out, "holds on payloads ended since nobody renewed them");
        }
    }
}
