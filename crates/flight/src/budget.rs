//! Memory of a whole process, counted against one limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;

/// A piece of memory: its address and its length.
pub type Piece = (usize, usize);

/// Told how many bytes are spare after some were taken.
pub type Told = Box<dyn Fn(u64) + Send + Sync>;

/// Counts the memory of a process: that of the server and that of its handlers.
///
/// 1. What was taken is counted until it is given, and never more than the
///    limit is taken.
/// 2. A piece is counted once, however many hold it: a body that a server
///    received is not counted again by the handler that keeps it.
/// 3. No call but `make_room` waits for anything, and none panics.
/// 4. `make_room` may be dropped at any await.
#[async_trait]
pub trait MemoryBudget: Send + Sync + 'static {
    /// Bytes that are not in use.
    fn spare(&self) -> u64;

    /// Counts so many bytes more, or nothing where there is no room for them.
    fn try_take(&self, bytes: u64) -> bool;

    /// Counts so many bytes less.
    fn give(&self, bytes: u64);

    /// Bytes that were taken, as many as the piece has, are this piece now.
    fn becomes(&self, piece: Piece);

    /// One holder less of a piece, which counts no more without any.
    fn give_piece(&self, piece: Piece);

    /// Has somebody told after each taking: who keeps memory that nobody uses
    /// gives it back when there is less to spare. Only one can be.
    fn when_taken(&self, told: Told);

    /// Tries to have so many bytes spare, such as by moving to disk what is
    /// kept in memory; whether to try again to take them.
    async fn make_room(&self, bytes: u64) -> bool;
}

/// Pieces of memory, each counted once, and bytes besides.
#[derive(Debug, Default)]
pub struct Pieces {
    used: u64,
    /// How often each piece is held.
    holders: HashMap<Piece, u32>,
}

impl Pieces {
    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of those pieces that are not counted yet.
    pub fn needed(&self, pieces: &[Piece]) -> u64 {
        let new = pieces.iter().filter(|piece| !self.holders.contains_key(*piece));
        new.map(|piece| piece.1 as u64).sum()
    }

    /// One more holder of a piece; the bytes that are counted for it now.
    pub fn hold(&mut self, piece: Piece) -> u64 {
        let holders = self.holders.entry(piece).or_insert(0);
        *holders += 1;
        let bytes = if *holders == 1 { piece.1 as u64 } else { 0 };
        self.used += bytes;
        bytes
    }

    /// One holder less; the bytes that are not counted any more.
    pub fn release(&mut self, piece: Piece) -> u64 {
        let Some(holders) = self.holders.get_mut(&piece) else { return 0 };
        *holders -= 1;
        if *holders > 0 {
            return 0;
        }
        self.holders.remove(&piece);
        self.give(piece.1 as u64);
        piece.1 as u64
    }

    /// Bytes of no piece.
    pub fn take(&mut self, bytes: u64) {
        self.used += bytes;
    }

    /// As many less.
    pub fn give(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

/// Which limit refused, and how much of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes that were asked for.
    pub needed: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes at most.
    pub limit: u64,
}

/// A memory limit that several parts of a process share.
///
/// Counted is each piece of memory once, however many messages point to it. By
/// itself it makes no room: nothing that it counts can be given up.
pub struct Budget {
    limit: u64,
    state: Mutex<Pieces>,
    told: OnceLock<Told>,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        let (state, told) = (Mutex::default(), OnceLock::new());
        Arc::new(Budget { limit: limit_bytes, state, told })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Bytes of those pieces that nobody has counted yet.
    pub fn needed(&self, pieces: &[Piece]) -> u64 {
        self.state().needed(pieces)
    }

    /// Counts pieces, each unless somebody has it counted already, and so many
    /// bytes besides.
    ///
    /// # Errors
    /// Where it does not fit; nothing is counted then.
    pub fn hold(&self, pieces: &[Piece], overhead: u64) -> Result<(), Full> {
        let mut state = self.state();
        let needed = state.needed(pieces) + overhead;
        if needed > self.limit.saturating_sub(state.used) {
            return Err(Full { needed, used: state.used, limit: self.limit });
        }
        for piece in pieces {
            state.hold(*piece);
        }
        state.take(overhead);
        self.tell(state);
        Ok(())
    }

    /// One holder less of each piece, and so many bytes less besides.
    pub fn release(&self, pieces: &[Piece], overhead: u64) {
        let mut state = self.state();
        for piece in pieces {
            state.release(*piece);
        }
        state.give(overhead);
    }

    /// Counts `new` in place of `gone`, whose memory it replaces and which is
    /// larger, so that there is room.
    pub fn exchange(&self, gone: &[Piece], new: &[Piece]) {
        let mut state = self.state();
        for piece in gone {
            state.release(*piece);
        }
        for piece in new {
            state.hold(*piece);
        }
    }

    fn tell(&self, state: MutexGuard<'_, Pieces>) {
        let spare = self.limit.saturating_sub(state.used);
        drop(state);
        if let Some(told) = self.told.get() {
            told(spare);
        }
    }

    fn state(&self) -> MutexGuard<'_, Pieces> {
        // No code above panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (limit, used) = (self.limit, self.used());
        f.debug_struct("Budget").field("limit", &limit).field("used", &used).finish_non_exhaustive()
    }
}

#[async_trait]
impl MemoryBudget for Budget {
    fn spare(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    fn try_take(&self, bytes: u64) -> bool {
        self.hold(&[], bytes).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.state().give(bytes);
    }

    fn becomes(&self, piece: Piece) {
        let mut state = self.state();
        state.hold(piece);
        state.give(piece.1 as u64);
    }

    fn give_piece(&self, piece: Piece) {
        self.state().release(piece);
    }

    fn when_taken(&self, told: Told) {
        // The first stays.
        drop(self.told.set(told));
    }

    async fn make_room(&self, bytes: u64) -> bool {
        bytes <= self.spare()
    }
}

/// Bytes that are counted for as long as this lives.
pub(crate) struct Charge {
    budget: Option<Arc<dyn MemoryBudget>>,
    bytes: u64,
}

impl Charge {
    /// Nothing so far; without a budget nothing ever.
    pub(crate) fn new(budget: Option<Arc<dyn MemoryBudget>>) -> Self {
        Charge { budget, bytes: 0 }
    }

    /// Bytes counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts so many more, where there is room.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.budget.as_ref().is_none_or(|budget| budget.try_take(bytes));
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// The same as [`Charge::grow`], after room was made for it where there is none.
    pub(crate) async fn grow_with_room(&mut self, bytes: u64) -> bool {
        while !self.grow(bytes) {
            let Some(budget) = &self.budget else { return true };
            if !budget.make_room(bytes).await {
                return false;
            }
        }
        true
    }

    /// What is counted is a piece from now on, and what is left of it goes with
    /// the piece.
    pub(crate) fn into_piece(mut self, piece: Piece) -> Counted {
        let size = piece.1 as u64;
        let budget = self.budget.clone().filter(|_| size <= self.bytes);
        if let Some(budget) = &budget {
            budget.becomes(piece);
            self.bytes -= size;
        }
        Counted { budget, piece, _rest: self }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget
            && self.bytes > 0
        {
            budget.give(self.bytes);
        }
    }
}

/// A piece that is counted for as long as this lives.
pub(crate) struct Counted {
    budget: Option<Arc<dyn MemoryBudget>>,
    piece: Piece,
    _rest: Charge,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_piece(self.piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_becomes_a_piece_and_counts_once() {
        let shared = Budget::new(100);
        let budget: Arc<dyn MemoryBudget> = shared.clone();
        let mut charge = Charge::new(Some(budget.clone()));
        assert!(charge.grow(70) && !charge.grow(31));
        assert_eq!((charge.bytes(), budget.spare()), (70, 30));
        let counted = charge.into_piece((4096, 60));
        assert_eq!(budget.spare(), 30);
        // Another holder of the same memory, and of some more.
        let full = shared.hold(&[(4096, 60)], 31).unwrap_err();
        assert_eq!(full, Full { needed: 31, used: 70, limit: 100 });
        shared.hold(&[(4096, 60)], 30).unwrap();
        drop(counted);
        assert_eq!(budget.spare(), 10);
        shared.release(&[(4096, 60)], 30);
        assert_eq!(budget.spare(), 100);
    }

    #[tokio::test]
    async fn nothing_makes_room_where_nothing_can() {
        let budget: Arc<dyn MemoryBudget> = Budget::new(10);
        let mut charge = Charge::new(Some(budget.clone()));
        assert!(charge.grow_with_room(10).await && !charge.grow_with_room(1).await);
        assert!(Charge::new(None).grow(u64::MAX));
    }
}
