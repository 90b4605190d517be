//! Queues: names, switches, limits, counts, and what is ready in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_retry::Timestamp;

use super::bucket::Bucket;
use super::ready::Ready;
use super::record::{Micros, Record};
use crate::contract::Error;
use crate::limits::MAX_QUEUES;
use crate::model::State;
use crate::policy::QueuePolicy;

/// One queue.
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) purged: u64,
    pub(super) dirty: bool,
    pub(super) policy: QueuePolicy,
    pub(super) bucket: Option<Bucket>,
    /// When claims are worth trying again; its entry in the engine's index.
    pub(super) throttled_until: Micros,
    pub(super) counts: [u64; State::ALL.len()],
    pub(super) live_rows: u128,
    pub(super) live_bytes: u128,
    pub(super) ready: Ready,
    pub(super) due: BTreeSet<(Micros, u32)>,
}

impl Queue {
    fn new(name: &str) -> Self {
        Queue {
            name: name.into(),
            paused: false,
            draining: false,
            purged: 0,
            dirty: false,
            policy: QueuePolicy::default(),
            bucket: None,
            throttled_until: 0,
            counts: [0; State::ALL.len()],
            live_rows: 0,
            live_bytes: 0,
            ready: Ready::default(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, slot: u32, record: &Record, tenant: &Arc<str>) {
        self.counts[record.state as usize] += 1;
        if !record.state.is_terminal() {
            self.live_rows = self.live_rows.saturating_add(record.rows.into());
            self.live_bytes = self.live_bytes.saturating_add(record.bytes.into());
        }
        match record.state {
            State::Pending => {
                let at = (record.sequence, slot);
                self.ready.add(record.tenant, tenant, Reverse(record.priority), at);
            }
            State::Processing => self.ready.lease(record.tenant, tenant, true),
            State::Scheduled => {
                self.due.insert((record.at, slot));
            }
            _ => {}
        }
    }

    pub(super) fn take(&mut self, slot: u32, record: &Record, tenant: &Arc<str>) {
        self.counts[record.state as usize] -= 1;
        if !record.state.is_terminal() {
            self.live_rows = self.live_rows.saturating_sub(record.rows.into());
            self.live_bytes = self.live_bytes.saturating_sub(record.bytes.into());
        }
        match record.state {
            State::Pending => {
                let level = Reverse(record.priority);
                self.dirty |= self.ready.remove(record.tenant, level, record.sequence);
            }
            State::Processing => self.ready.lease(record.tenant, tenant, false),
            State::Scheduled => {
                self.due.remove(&(record.at, slot));
            }
            _ => {}
        }
    }

    /// How many batches may be given out now, whoever they are of.
    pub(super) fn room(&self, now: Timestamp) -> usize {
        if self.paused {
            return 0;
        }
        let leased = self.counts[State::Processing as usize];
        let cap =
            self.policy.max_leased.map_or(u64::MAX, |most| u64::from(most).saturating_sub(leased));
        let tokens = self.bucket.as_ref().map_or(u64::MAX, |bucket| bucket.tokens(now));
        usize::try_from(cap.min(tokens)).unwrap_or(usize::MAX)
    }

    /// Whether a claim could be given something now.
    pub(super) fn has_work(&self, now: Timestamp) -> bool {
        self.ready.is_open() && self.room(now) > 0
    }

    /// An end of a lease may let the next one begin.
    pub(super) fn is_capped(&self) -> bool {
        self.policy.max_leased.is_some() || self.policy.max_leased_per_tenant.is_some()
    }

    /// Sets the limits; what the bucket holds stays, as far as it fits.
    pub(super) fn configure(&mut self, policy: &QueuePolicy, full_at_ns: u64, now: Timestamp) {
        self.ready.set_cap(policy.max_leased_per_tenant);
        self.bucket = policy.rate.map(|limit| Bucket::new(limit, full_at_ns, now));
        self.policy = policy.clone();
    }
}

/// All queues, by number and by name.
#[derive(Default)]
pub(super) struct Queues {
    all: Vec<Queue>,
    names: BTreeMap<Arc<str>, u32>,
}

impl Queues {
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// The queue of that name, made where it is missing.
    pub(super) fn ensure(&mut self, name: &str) -> Result<u32, Error> {
        if let Some(number) = self.find(name) {
            return Ok(number);
        }
        self.room_for(1)?;
        let queue = Queue::new(name);
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.names.insert(Arc::clone(&queue.name), number);
        self.all.push(queue);
        Ok(number)
    }

    pub(super) fn room_for(&self, more: usize) -> Result<(), Error> {
        crate::limits::at_most("queues", self.all.len() + more, MAX_QUEUES)
    }

    pub(super) fn get(&self, number: u32) -> &Queue {
        &self.all[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Queue {
        &mut self.all[number as usize]
    }

    /// By name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.names.values().map(|number| self.get(*number))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.all.iter_mut()
    }
}
