//! Every payload by name, and the queues over them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;
use tokio::sync::Notify;

use super::entry::Entry;

/// Schemas that payloads share in memory; beyond that each has its own.
const SHARED_SCHEMAS: usize = 1_024;
/// Larger schemas are not shared, and count against the memory budget.
pub(crate) const LARGE_SCHEMA: usize = 64 << 10;
/// Void entries that the queues may have besides as many as there are payloads.
const SLACK: usize = 1_024;

#[derive(Default)]
pub(crate) struct Index {
    state: Mutex<State>,
    /// Some id is not being changed any more.
    pub(crate) settled: Notify,
    /// Something is due earlier than before.
    pub(crate) due: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) entries: BTreeMap<BatchId, Arc<Entry>>,
    /// Ids whose file is being made or removed: nobody else touches these.
    pub(crate) changing: HashSet<BatchId>,
    /// Entries with messages in memory, coldest first by the time they were
    /// queued; one that was used since goes to the end again.
    pub(crate) cold: VecDeque<(Timestamp, BatchId)>,
    pub(crate) deadlines: BinaryHeap<Reverse<(Timestamp, BatchId)>>,
    schemas: HashMap<Bytes, Bytes>,
}

impl Index {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &BatchId) -> Option<Arc<Entry>> {
        self.state().entries.get(id).cloned()
    }

    /// Has the retention task look at an entry at this time.
    pub(crate) fn schedule(&self, entry: &Entry, at: Timestamp) {
        self.state().schedule(entry, at);
        self.due.notify_one();
    }

    /// The right to change `id`, unless someone has it.
    pub(crate) fn try_claim(self: &Arc<Self>, id: &BatchId) -> Option<Claim> {
        let free = self.state().changing.insert(id.clone());
        free.then(|| Claim { index: Arc::clone(self), id: id.clone() })
    }

    /// Waits until no one else changes `id`, then keeps others from it.
    ///
    /// The entry there is then, if any, is the answer's second half.
    pub(crate) async fn claim(self: &Arc<Self>, id: &BatchId) -> (Claim, Option<Arc<Entry>>) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            // Registered before the look: a change in between is not missed.
            settled.as_mut().enable();
            {
                let mut state = self.state();
                if state.changing.insert(id.clone()) {
                    let entry = state.entries.get(id).cloned();
                    return (Claim { index: Arc::clone(self), id: id.clone() }, entry);
                }
            }
            settled.await;
        }
    }
}

impl State {
    pub(crate) fn schedule(&mut self, entry: &Entry, at: Timestamp) {
        entry.due_at.store(at.as_micros(), Ordering::Relaxed);
        self.deadlines.push(Reverse((at, entry.as_put().id.clone())));
        if self.deadlines.len() > self.entries.len() * 2 + SLACK {
            let entries = &self.entries;
            let counts = |id: &BatchId, at: Timestamp| {
                let due_at = entries.get(id).map(|entry| entry.due_at.load(Ordering::Relaxed));
                due_at == Some(at.as_micros())
            };
            self.deadlines.retain(|Reverse((at, id))| counts(id, *at));
        }
    }

    /// Has an entry considered when room is made in memory.
    pub(crate) fn queue_cold(&mut self, at: Timestamp, id: BatchId) {
        self.cold.push_back((at, id));
        if self.cold.len() > self.entries.len() * 2 + SLACK {
            let entries = &self.entries;
            let in_memory =
                |id: &BatchId| entries.get(id).is_some_and(|entry| entry.place().memory.is_some());
            // A name that was deleted and used again may be in it twice.
            let mut seen = HashSet::new();
            self.cold.retain(|(_, id)| in_memory(id) && seen.insert(id.clone()));
        }
    }

    /// The same bytes, in memory that equal schemas share.
    pub(crate) fn share_schema(&mut self, schema: &[u8]) -> Bytes {
        if let Some(known) = self.schemas.get(schema) {
            return known.clone();
        }
        let own = Bytes::copy_from_slice(schema);
        if self.schemas.len() < SHARED_SCHEMAS && own.len() <= LARGE_SCHEMA {
            self.schemas.insert(own.clone(), own.clone());
        }
        own
    }
}

/// The right to change one id.
pub(crate) struct Claim {
    index: Arc<Index>,
    id: BatchId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.index.state().changing.remove(&self.id);
        self.index.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_do_not_grow_with_payloads_that_are_gone() {
        let mut state = State::default();
        for number in 0..10_000 {
            let id = BatchId::generate(number);
            let at = Timestamp::from_millis(number);
            state.queue_cold(at, id.clone());
            let info = crate::PayloadInfo {
                id,
                rows: 0,
                bytes: 0,
                stored_bytes: 0,
                messages: 0,
                checksum: String::new(),
                schema_fingerprint: String::new(),
                schema: Bytes::new(),
                durability: crate::Durability::Memory,
                created_at: at,
                used_at: at,
                put_by: None,
            };
            let account = crate::budget::Account::new(crate::Budget::new(1), None);
            let held = crate::budget::Held::new(&account);
            let entry = Entry::new(info, Default::default(), false, (held, None, 0));
            state.schedule(&entry, at);
        }
        assert!(state.cold.len() <= SLACK && state.deadlines.len() <= SLACK);
    }

    #[test]
    fn equal_schemas_share_memory_and_large_ones_do_not() {
        let mut state = State::default();
        let (one, two) = (state.share_schema(b"abc"), state.share_schema(b"abc"));
        assert_eq!(one.as_ptr(), two.as_ptr());
        let large = vec![0; LARGE_SCHEMA + 1];
        assert_ne!(state.share_schema(&large).as_ptr(), state.share_schema(&large).as_ptr());
    }
}
