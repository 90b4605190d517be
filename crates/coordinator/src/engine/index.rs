//! The indexes over the records: every change of a batch goes through here.

use std::sync::Arc;

use super::Engine;
use super::record::{HAS_KEY, HAS_PARENTS, IS_REMEMBERED, Record};
use crate::model::State;

impl Engine {
    /// Adds a record to the table of names and to all indexes.
    pub(super) fn insert(&mut self, mut record: Record, tenant: &str) -> u32 {
        record.tenant = self.tenants.add(tenant);
        let sequence = record.sequence;
        let flags = record.flags;
        self.next_sequence = self.next_sequence.max(sequence + 1);
        let hash = self.hash_of(record.id());
        let slot = self.slab.insert(record);
        let (slab, hasher) = (&self.slab, &self.hasher);
        let rehash = |slot: &u32| super::hash_id(hasher, slab.get(*slot).id());
        self.ids.insert_unique(hash, slot, rehash);
        self.order.insert(sequence, slot);
        if flags & HAS_PARENTS != 0 {
            self.link_parents(slot, true);
        }
        if flags & HAS_KEY != 0 {
            self.remember(slot);
        }
        self.attach(slot);
        slot
    }

    /// Takes a record out of everything.
    pub(super) fn forget(&mut self, slot: u32) {
        self.detach(slot);
        let flags = self.slab.get(slot).flags;
        if flags & HAS_PARENTS != 0 {
            self.link_parents(slot, false);
        }
        if flags & IS_REMEMBERED != 0 {
            self.unremember(slot);
        }
        let record = self.slab.get(slot);
        self.tenants.remove(record.tenant);
        self.order.remove(&record.sequence);
        let hash = self.hash_of(record.id());
        if let Ok(entry) = self.ids.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.slab.remove(slot);
    }

    /// Enters a record into the indexes that fit its state.
    pub(super) fn attach(&mut self, slot: u32) {
        let record = self.slab.get(slot);
        let tenant = self.tenants.name(record.tenant);
        self.queues.get_mut(record.queue).add(slot, record, tenant);
        if record.state.is_terminal() {
            self.terminal += 1;
        } else {
            self.live_bytes = self.live_bytes.saturating_add(record.bytes.into());
        }
        match record.state {
            State::Pending => self.ready = true,
            State::Scheduled => {
                self.due.insert((record.at, record.sequence));
            }
            State::Processing => {
                if let Some(held) = record.lease.as_deref() {
                    self.deadlines.insert((held.deadline, record.sequence));
                    let key = self.request_key(&held.worker, &held.request);
                    self.requests.entry(key).or_default().push(slot);
                }
            }
            State::Waiting => self.link_waits(slot, true),
            State::Completed | State::Failed | State::Cancelled | State::Expired => {
                self.link_outputs(slot, true);
                self.age_if_free(slot);
            }
        }
        let record = self.slab.get(slot);
        if record.expires_at > 0 && record.state.is_unclaimed() {
            self.expiry.insert((record.expires_at, record.sequence));
        }
    }

    /// A terminal batch that nothing holds is forgotten in its time.
    pub(super) fn age_if_free(&mut self, slot: u32) {
        let record = self.slab.get(slot);
        if record.flags & IS_REMEMBERED != 0 || self.has_children(record.sequence) {
            return;
        }
        match record.state {
            State::Failed => self.failed.insert((record.at, record.sequence)),
            state if state.is_terminal() => self.finished.insert((record.at, record.sequence)),
            _ => false,
        };
    }

    /// Undoes [`Engine::attach`].
    pub(super) fn detach(&mut self, slot: u32) {
        let record = self.slab.get(slot);
        let tenant = self.tenants.name(record.tenant);
        self.queues.get_mut(record.queue).take(slot, record, tenant);
        if record.state.is_terminal() {
            self.terminal -= 1;
        } else {
            self.live_bytes = self.live_bytes.saturating_sub(record.bytes.into());
        }
        match record.state {
            State::Scheduled => {
                self.due.remove(&(record.at, record.sequence));
            }
            State::Processing => {
                if let Some(held) = record.lease.as_deref() {
                    self.deadlines.remove(&(held.deadline, record.sequence));
                    let key = self.request_key(&held.worker, &held.request);
                    if let Some(slots) = self.requests.get_mut(&key) {
                        if let Some(at) = slots.iter().position(|other| *other == slot) {
                            slots.swap_remove(at);
                        }
                        if slots.is_empty() {
                            self.requests.remove(&key);
                        }
                    }
                }
            }
            State::Failed => {
                self.failed.remove(&(record.at, record.sequence));
                self.link_outputs(slot, false);
            }
            State::Completed | State::Cancelled | State::Expired => {
                self.finished.remove(&(record.at, record.sequence));
                self.link_outputs(slot, false);
            }
            State::Waiting => self.link_waits(slot, false),
            State::Pending => {}
        }
        let record = self.slab.get(slot);
        if record.expires_at > 0 {
            self.expiry.remove(&(record.expires_at, record.sequence));
        }
    }

    /// The only way in which a batch changes: indexes, counts and effects follow.
    pub(super) fn change(&mut self, slot: u32, change: impl FnOnce(&mut Record)) {
        self.keep(slot);
        self.detach(slot);
        let record = self.slab.get_mut(slot);
        let from = record.state;
        let worker = record.lease.as_ref().map(|held| Arc::clone(&held.worker));
        change(record);
        record.updated_at = self.now.as_micros();
        self.attach(slot);
        self.note(slot, Some(from), worker);
        let record = self.slab.get(slot);
        if from == State::Processing && record.state != from {
            let queue = self.queues.get(record.queue);
            self.ready |= queue.is_capped() && queue.ready.len() > 0;
        }
        if record.state.is_terminal() && self.has_children(record.sequence) {
            self.agenda.insert(record.sequence);
        }
    }
}
