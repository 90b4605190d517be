//! Keys under which a batch is registered once within a time.

use sheaf_retry::Timestamp;

use super::Engine;
use super::record::{IS_REMEMBERED, Micros};
use crate::model::BatchSpec;

/// Most keys that one call forgets because their time passed.
pub const FORGET_KEYS_PER_CALL: usize = 256;

/// Whose key it is, and the key.
pub(super) type Key = (u32, u32, Box<str>);

impl Engine {
    fn key_of(&self, slot: u32) -> (Key, Micros) {
        let record = self.slab.get(slot);
        let spec = record.spec("");
        let until = Timestamp::from_micros(record.registered_at).plus(spec.dedup_window);
        ((record.queue, record.tenant, spec.dedup_key.into()), until.as_micros())
    }

    /// The batch that was registered under the key of `spec` not long ago.
    pub(super) fn first_of(&self, spec: &BatchSpec, now: Timestamp) -> Option<u32> {
        if spec.dedup_key.is_empty() {
            return None;
        }
        let queue = self.queues.find(crate::limits::queue(&spec.queue).ok()?)?;
        let tenant = self.tenants.find(&spec.tenant)?;
        let (until, sequence) = *self.keys.get(&(queue, tenant, spec.dedup_key.as_str().into()))?;
        if until <= now.as_micros() {
            return None;
        }
        self.order.get(&sequence).copied()
    }

    /// The first key that is remembered, for [`Engine::load_keys_from`] of a copy:
    /// keys are forgotten in order, and a bounded number at once.
    pub fn first_key(&self) -> (u64, u64) {
        self.key_times.first().copied().unwrap_or((u64::MAX, u64::MAX))
    }

    /// Until [`Engine::finish_load`] keys are remembered as the engine did that
    /// answered this, whatever the time is.
    pub fn load_keys_from(&mut self, first: (u64, u64)) {
        self.first_key = Some(first);
    }

    /// Keeps the key of a batch; of two batches with one key the one whose
    /// time ends later has it.
    pub(super) fn remember(&mut self, slot: u32) {
        let (key, until) = self.key_of(slot);
        let sequence = self.slab.get(slot).sequence;
        let is_over = match self.first_key {
            Some(first) => (until, sequence) < first,
            None => until <= self.now.as_micros(),
        };
        if is_over {
            return;
        }
        if let Some((before, other)) = self.keys.get(&key).copied() {
            if before >= until {
                return;
            }
            self.key_times.remove(&(before, other));
            self.release_key(other);
        }
        self.keys.insert(key, (until, sequence));
        self.key_times.insert((until, sequence));
        self.slab.get_mut(slot).flags |= IS_REMEMBERED;
    }

    /// Forgets the key of a batch that goes.
    pub(super) fn unremember(&mut self, slot: u32) {
        let (key, until) = self.key_of(slot);
        let sequence = self.slab.get(slot).sequence;
        if self.keys.get(&key).is_some_and(|(_, other)| *other == sequence) {
            self.keys.remove(&key);
        }
        self.key_times.remove(&(until, sequence));
        self.slab.get_mut(slot).flags &= !IS_REMEMBERED;
    }

    fn release_key(&mut self, sequence: u64) {
        if let Some(slot) = self.order.get(&sequence).copied() {
            self.slab.get_mut(slot).flags &= !IS_REMEMBERED;
            if self.slab.get(slot).state.is_terminal() {
                self.age_if_free(slot);
            }
        }
    }

    /// Frees keys whose time passed.
    pub(super) fn forget_keys(&mut self, now: Timestamp) {
        for _ in 0..FORGET_KEYS_PER_CALL {
            let Some((until, sequence)) = self.key_times.first().copied() else { return };
            if until > now.as_micros() {
                return;
            }
            match self.order.get(&sequence).copied() {
                Some(slot) => self.unremember(slot),
                None => {
                    self.key_times.remove(&(until, sequence));
                }
            }
            self.release_key(sequence);
        }
    }
}
