//! Room that was promised to senders and is not taken yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_flight::{Budget, Full};

/// Counted for each chunk besides its bytes.
const OVERHEAD: u64 = 1 << 10;

/// All promises of an exchange.
///
/// Together they are never more than what the budget has to spare. Who found no
/// room comes first when there is some: a large chunk is not overtaken by small
/// ones for ever.
#[derive(Debug, Default)]
pub(super) struct Promises {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    next: u64,
    waiting: BTreeSet<u64>,
}

/// The promises to one sender, which are void when this is dropped.
#[derive(Debug)]
pub(in crate::shuffle) struct Promise {
    all: Arc<Promises>,
    budget: Arc<Budget>,
    bytes: u64,
    /// Its place among those that wait.
    place: Option<u64>,
}

/// Which room a sender may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shuffle) enum Claim {
    /// What is spare, in turn.
    Plain,
    /// What is spare, before all others: readers wait for it.
    First,
    /// What is spare but for so much: readers wait for another one.
    Last { reserve: u64 },
}

impl Promises {
    /// Bytes of all promises.
    pub(super) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code below panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    pub(super) fn new(all: Arc<Promises>, budget: Arc<Budget>) -> Self {
        Promise { all, budget, bytes: 0, place: None }
    }

    /// Promises room for a chunk of so many bytes.
    ///
    /// # Errors
    /// Where there is none, or others wait for longer. What never fits waits for
    /// nothing.
    pub(in crate::shuffle) fn add(&mut self, bytes: u64, claim: Claim) -> Result<(), Full> {
        let needed = Self::needed(bytes);
        let (limit, used) = (self.budget.limit(), self.budget.used());
        let mut state = self.all.state();
        let is_next = state.waiting.first().is_none_or(|first| Some(*first) == self.place);
        let spare = limit.saturating_sub(used).saturating_sub(state.bytes);
        if needed > limit {
            return Err(Full { needed, used, limit });
        }
        let (is_next, reserve) = match claim {
            Claim::Plain => (is_next, 0),
            Claim::First => (true, 0),
            Claim::Last { reserve } => (is_next, reserve),
        };
        if needed <= spare && is_next && needed.saturating_add(reserve) > spare {
            // What is kept for somebody else is nothing to be waited for in turn.
            if let Some(place) = self.place.take() {
                state.waiting.remove(&place);
            }
            let used = used.saturating_add(state.bytes).saturating_add(reserve);
            return Err(Full { needed: bytes, used, limit });
        }
        if needed > spare || !is_next {
            if self.place.is_none() {
                let place = state.next;
                state.next += 1;
                state.waiting.insert(place);
                self.place = Some(place);
            }
            return Err(Full { needed: bytes, used: used.saturating_add(state.bytes), limit });
        }
        if let Some(place) = self.place.take() {
            state.waiting.remove(&place);
        }
        state.bytes = state.bytes.saturating_add(needed);
        self.bytes = self.bytes.saturating_add(needed);
        Ok(())
    }

    /// What a chunk of so many bytes takes.
    pub(in crate::shuffle) fn needed(bytes: u64) -> u64 {
        bytes.saturating_add(OVERHEAD)
    }

    /// Whether others found no room and wait.
    pub(in crate::shuffle) fn has_rivals(&self) -> bool {
        self.all.state().waiting.iter().any(|place| Some(*place) != self.place)
    }

    /// Nothing is promised any more.
    pub(in crate::shuffle) fn void(&mut self) {
        let mut state = self.all.state();
        state.bytes = state.bytes.saturating_sub(std::mem::take(&mut self.bytes));
    }

    /// A promised chunk has come.
    pub(in crate::shuffle) fn kept(&mut self, bytes: u64) {
        let needed = Self::needed(bytes).min(self.bytes);
        self.bytes -= needed;
        let mut state = self.all.state();
        state.bytes = state.bytes.saturating_sub(needed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.bytes = state.bytes.saturating_sub(self.bytes);
        if let Some(place) = self.place {
            state.waiting.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Claim = Claim::Plain;

    #[test]
    fn no_more_is_promised_than_there_is_and_the_first_comes_first() {
        let (all, budget) = (Arc::<Promises>::default(), Budget::new(100 << 10));
        let new = || Promise::new(Arc::clone(&all), Arc::clone(&budget));
        let (mut one, mut two, mut three) = (new(), new(), new());
        one.add(60 << 10, PLAIN).unwrap();
        let full = two.add(50 << 10, PLAIN).unwrap_err();
        assert_eq!((full.needed, full.used, full.limit), (50 << 10, 61 << 10, 100 << 10));
        // There would be room, but another one waits for longer.
        three.add(1 << 10, PLAIN).unwrap_err();
        one.kept(60 << 10);
        three.add(1 << 10, PLAIN).unwrap_err();
        two.add(50 << 10, PLAIN).unwrap();
        three.add(1 << 10, PLAIN).unwrap();
        // What others hold is not there to be promised.
        budget.hold(&[], 40 << 10).unwrap();
        one.add(20 << 10, PLAIN).unwrap_err();
        drop((one, two));
        assert_eq!(all.state().bytes, 2 << 10);
        three.add(40 << 10, PLAIN).unwrap();
        // What never fits stands in nobody's way.
        let never = three.add(100 << 10, PLAIN).unwrap_err();
        assert!(never.needed > never.limit);
        three.add(1 << 10, PLAIN).unwrap();
        drop(three);
        let state = all.state();
        assert_eq!((state.bytes, state.waiting.len()), (0, 0));
    }

    #[test]
    fn who_is_read_finds_room_that_others_leave() {
        let (all, budget) = (Arc::<Promises>::default(), Budget::new(100 << 10));
        let new = || Promise::new(Arc::clone(&all), Arc::clone(&budget));
        let (mut read, mut other, mut third) = (new(), new(), new());
        let last = Claim::Last { reserve: 25 << 10 };
        other.add(60 << 10, last).unwrap();
        let full = other.add(20 << 10, last).unwrap_err();
        assert_eq!((full.needed, full.used), (20 << 10, 86 << 10));
        // Nobody waits behind who is refused for the sake of another one.
        third.add(1 << 10, PLAIN).unwrap();
        // This one waits, and who is read does not wait for it.
        third.add(50 << 10, PLAIN).unwrap_err();
        read.add(30 << 10, Claim::First).unwrap();
        other.add(1 << 10, PLAIN).unwrap_err();
    }
}
