//! Memory of messages that nothing uses any more, for the chunks that come next.
//!
//! New memory of a chunk costs more than the rows that are copied there: the
//! system has to clear its pages first. So what a message was made of comes
//! back when the last one who holds it lets go, on whatever thread that is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow_buffer::Buffer;
use bytes::Bytes;

/// Less is not worth the lock: allocators give pieces of such sizes again.
const LEAST_KEPT: usize = 32 << 10;

/// The least of elements that are taken at once.
const LEAST: usize = 64;

/// What all lanes of a partitioner may keep: with what is open, no more than a
/// limit.
#[derive(Debug)]
pub(super) struct Budget {
    used: Mutex<Used>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Used {
    open: usize,
    spare: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Budget { used: Mutex::default(), limit }
    }

    /// Notes how much is open now; whether spare memory has to go for it.
    pub(super) fn set_open(&self, bytes: usize) -> bool {
        let mut used = locked(&self.used);
        used.open = bytes;
        used.open.saturating_add(used.spare) > self.limit
    }

    #[cfg(test)]
    pub(super) fn spare_bytes(&self) -> usize {
        locked(&self.used).spare
    }

    fn keep(&self, bytes: usize) -> bool {
        let mut used = locked(&self.used);
        let fits = used.open.saturating_add(used.spare).saturating_add(bytes) <= self.limit;
        used.spare += if fits { bytes } else { 0 };
        fits
    }

    fn let_go(&self, bytes: usize) {
        let mut used = locked(&self.used);
        used.spare = used.spare.saturating_sub(bytes);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What memory of chunks holds.
pub(super) trait Element: Copy + Send + Sync + 'static {
    fn as_bytes(elements: &[Self]) -> &[u8];
    fn buffer(elements: Vec<Self>) -> Buffer;
}

impl<const N: usize> Element for [u8; N] {
    fn as_bytes(elements: &[Self]) -> &[u8] {
        elements.as_flattened()
    }

    fn buffer(elements: Vec<Self>) -> Buffer {
        Buffer::from_vec(elements.into_flattened())
    }
}

macro_rules! elements {
    ($($native:ty),*) => {$(
        impl Element for $native {
            fn as_bytes(elements: &[Self]) -> &[u8] {
                arrow_buffer::ToByteSlice::to_byte_slice(elements)
            }

            fn buffer(elements: Vec<Self>) -> Buffer {
                Buffer::from_vec(elements)
            }
        }
    )*};
}

elements!(u8, i32, i64, u128);

/// The spare memory of one lane.
#[derive(Debug)]
pub(super) struct Spare<T: Element>(Arc<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    free: Mutex<Vec<Vec<T>>>,
    budget: Arc<Budget>,
}

impl<T: Element> Spare<T> {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Spare(Arc::new(Kept { free: Mutex::default(), budget: Arc::clone(budget) }))
    }

    /// Makes room for `more` elements: at first for `hint`, later for twice as
    /// many, but for no more than `limit` unless they are needed. Gives the bytes
    /// that this took.
    #[inline]
    pub(super) fn reserve(
        &self,
        memory: &mut Vec<T>,
        more: usize,
        hint: usize,
        limit: usize,
    ) -> usize {
        if more <= memory.capacity() - memory.len() {
            return 0;
        }
        self.grow(memory, more, hint, limit)
    }

    #[cold]
    fn grow(&self, memory: &mut Vec<T>, more: usize, hint: usize, limit: usize) -> usize {
        let before = memory.capacity();
        let needed = memory.len() + more;
        let wanted = if before == 0 { hint.max(LEAST) } else { before * 2 };
        let wanted = wanted.min(limit).max(needed);
        match self.find(needed, wanted) {
            Some(mut found) => {
                found.extend_from_slice(memory);
                self.0.keep(std::mem::replace(memory, found));
            }
            None => memory.reserve_exact(wanted - memory.len()),
        }
        (memory.capacity() - before) * size_of::<T>()
    }

    /// Memory for what is needed, unless it is far from what is wanted: an open
    /// chunk counts whole, however little is in it.
    fn find(&self, needed: usize, wanted: usize) -> Option<Vec<T>> {
        if wanted * size_of::<T>() < LEAST_KEPT {
            return None;
        }
        let mut free = locked(&self.0.free);
        let allowed = needed.max(wanted / 2)..=wanted * 2;
        let place = free.iter().rposition(|memory| allowed.contains(&memory.capacity()))?;
        let found = free.swap_remove(place);
        self.0.budget.let_go(bytes_of(&found));
        Some(found)
    }

    /// What a chunk holds, for its message; the memory comes back from there.
    pub(super) fn buffer(&self, memory: Vec<T>) -> Buffer {
        if bytes_of(&memory) < LEAST_KEPT {
            return T::buffer(memory);
        }
        let kept = Arc::downgrade(&self.0);
        Buffer::from(Bytes::from_owner(Borrowed { memory, kept }))
    }

    /// Gives all of it to the allocator.
    pub(super) fn shed(&self) {
        let free = std::mem::take(&mut *locked(&self.0.free));
        self.0.budget.let_go(free.iter().map(bytes_of).sum());
    }
}

impl<T> Kept<T> {
    /// In place of the oldest, where that is needed: what nobody took for so long
    /// is not of the size that chunks have now.
    fn keep(&self, mut memory: Vec<T>) {
        let bytes = bytes_of(&memory);
        if bytes < LEAST_KEPT {
            return;
        }
        let mut free = locked(&self.free);
        while !self.budget.keep(bytes) {
            if free.is_empty() {
                return;
            }
            self.budget.let_go(bytes_of(&free.remove(0)));
        }
        memory.clear();
        free.push(memory);
    }
}

/// Memory that a message uses.
struct Borrowed<T: Element> {
    memory: Vec<T>,
    /// None any more when the partitioner is gone.
    kept: Weak<Kept<T>>,
}

impl<T: Element> AsRef<[u8]> for Borrowed<T> {
    fn as_ref(&self) -> &[u8] {
        T::as_bytes(&self.memory)
    }
}

impl<T: Element> Drop for Borrowed<T> {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.upgrade() {
            kept.keep(std::mem::take(&mut self.memory));
        }
    }
}

/// Bytes of memory.
pub(super) fn bytes_of<T>(memory: &Vec<T>) -> usize {
    memory.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, LEAST_KEPT, Spare};

    const ROWS: usize = LEAST_KEPT / 8;

    fn spare(limit: usize) -> (Spare<[u8; 8]>, Arc<Budget>) {
        let budget = Arc::new(Budget::new(limit));
        (Spare::new(&budget), budget)
    }

    fn memory(spare: &Spare<[u8; 8]>, rows: usize) -> Vec<[u8; 8]> {
        let mut memory = Vec::new();
        spare.reserve(&mut memory, rows, rows, rows);
        memory.resize(rows, [1; 8]);
        memory
    }

    #[test]
    fn memory_grows_to_the_limit_and_beyond_only_for_what_is_there() {
        let (spare, _) = spare(0);
        let mut memory = Vec::new();
        assert_eq!(spare.reserve(&mut memory, 1, 100, 150), 800);
        memory.resize(100, [0; 8]);
        assert_eq!(spare.reserve(&mut memory, 1, 100, 150), 400);
        memory.resize(150, [0; 8]);
        assert_eq!(spare.reserve(&mut memory, 7, 100, 150), 56);
        assert_eq!(spare.reserve(&mut memory, 7, 100, 150), 0);
    }

    #[test]
    fn memory_comes_back_when_the_last_holder_lets_go_on_any_thread() {
        let (spare, budget) = spare(1 << 20);
        let first = memory(&spare, ROWS);
        let address = first.as_ptr().addr();
        let buffer = spare.buffer(first);
        assert_eq!(buffer.as_slice(), [1; ROWS * 8]);
        let other = buffer.slice(8);
        drop(buffer);
        assert_eq!(budget.spare_bytes(), 0, "it is still held");
        std::thread::spawn(move || drop(other)).join().unwrap();
        assert_eq!(budget.spare_bytes(), ROWS * 8);
        let again = memory(&spare, ROWS);
        assert_eq!(again.as_ptr().addr(), address);
        assert_eq!(budget.spare_bytes(), 0);
    }

    #[test]
    fn no_more_is_kept_than_open_memory_leaves_and_none_that_is_far_too_large() {
        let (spare, budget) = spare(3 * LEAST_KEPT);
        let some = || spare.buffer(vec![[1; 8]; ROWS]);
        assert!(!budget.set_open(LEAST_KEPT));
        drop([some(), some(), some()]);
        assert_eq!(budget.spare_bytes(), 2 * LEAST_KEPT);
        assert!(budget.set_open(2 * LEAST_KEPT), "what is spare has to go");
        spare.shed();
        assert_eq!(budget.spare_bytes(), 0);
        budget.set_open(0);
        drop(spare.buffer(vec![[1; 8]; 3 * ROWS]));
        assert_eq!(memory(&spare, ROWS).capacity(), ROWS);
        assert_eq!(budget.spare_bytes(), 3 * LEAST_KEPT);
    }

    #[test]
    fn memory_that_outlives_its_lane_is_freed() {
        let (spare, budget) = spare(1 << 20);
        let buffer = spare.buffer(vec![[1; 8]; ROWS]);
        drop(spare);
        drop(buffer);
        assert_eq!(budget.spare_bytes(), 0);
    }
}
