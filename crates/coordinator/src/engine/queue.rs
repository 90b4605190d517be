//! Queues: names, switches, counts, and what is ready in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Micros, Record};
use crate::contract::Error;
use crate::limits::MAX_QUEUES;
use crate::model::State;

/// One queue.
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) purged: u64,
    pub(super) dirty: bool,
    pub(super) counts: [u64; State::ALL.len()],
    pub(super) live_rows: u64,
    pub(super) live_bytes: u64,
    /// Pending batches: by priority, highest first, then by order of registration.
    pub(super) ready: BTreeMap<Reverse<i32>, BTreeMap<u64, u32>>,
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
            counts: [0; State::ALL.len()],
            live_rows: 0,
            live_bytes: 0,
            ready: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, slot: u32, record: &Record) {
        self.counts[record.state as usize] += 1;
        if !record.state.is_terminal() {
            self.live_rows = self.live_rows.saturating_add(record.rows);
            self.live_bytes = self.live_bytes.saturating_add(record.bytes);
        }
        match record.state {
            State::Pending => {
                let level = self.ready.entry(Reverse(record.priority)).or_default();
                level.insert(record.sequence, slot);
            }
            State::Scheduled => {
                self.due.insert((record.at, slot));
            }
            _ => {}
        }
    }

    pub(super) fn take(&mut self, slot: u32, record: &Record) {
        self.counts[record.state as usize] -= 1;
        if !record.state.is_terminal() {
            self.live_rows = self.live_rows.saturating_sub(record.rows);
            self.live_bytes = self.live_bytes.saturating_sub(record.bytes);
        }
        match record.state {
            State::Pending => {
                let key = Reverse(record.priority);
                if let Some(level) = self.ready.get_mut(&key) {
                    level.remove(&record.sequence);
                    if level.is_empty() {
                        self.ready.remove(&key);
                    }
                }
            }
            State::Scheduled => {
                self.due.remove(&(record.at, slot));
            }
            _ => {}
        }
    }

    /// Pending batches in the order in which they are given out.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Reverse<i32>, u64, u32)> + '_ {
        self.ready.iter().flat_map(|(priority, level)| {
            level.iter().map(move |(sequence, slot)| (*priority, *sequence, *slot))
        })
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
