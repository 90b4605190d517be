//! Batches that wait for others.
//!
//! A waiting batch keeps the sequence numbers of those that have not yet
//! completed; they are stored with it. An edge leads from each of them to it.
//! What ends is put on the agenda, and each call works off a bounded number of
//! edges, so that neither a long chain nor a wide fan takes one call long. An
//! edge that was worked off is gone: what is left to do is always what the
//! records say, also after a restart.

use sheaf_retry::{Code, Timestamp};

use super::Engine;
use super::record::Waits;
use crate::limits;
use crate::model::{Failure, OnParentFailure, State};

/// Most edges between batches that one call works off.
pub const PROPAGATE_PER_CALL: usize = 256;

impl Engine {
    /// Whether a batch waits for this one: it is then not forgotten.
    pub(super) fn has_children(&self, sequence: u64) -> bool {
        self.edges.range((sequence, false, 0)..=(sequence, true, u64::MAX)).next().is_some()
    }

    /// Enters the edges of a waiting batch, or takes them out.
    pub(super) fn link_waits(&mut self, slot: u32, add: bool) {
        let record = self.slab.get(slot);
        let child = record.sequence;
        let Some(waits) = record.extra.as_ref().and_then(|extra| extra.waits.as_ref()) else {
            return;
        };
        let patient = waits.on == OnParentFailure::Wait;
        if add {
            self.edges.extend(waits.unmet.iter().map(|parent| (*parent, patient, child)));
            return;
        }
        let unmet = waits.unmet.clone();
        for parent in unmet {
            self.edges.remove(&(parent, patient, child));
            self.let_go(parent);
        }
    }

    /// A batch for which nobody waits any more ages as others do.
    fn let_go(&mut self, parent: u64) {
        if let Some(slot) = self.order.get(&parent).copied()
            && self.slab.get(slot).state.is_terminal()
        {
            self.age_if_free(slot);
        }
    }

    /// One for which a batch waits is not forgotten.
    fn hold(&mut self, parent: u64) {
        if let Some(slot) = self.order.get(&parent) {
            let at = self.slab.get(*slot).at;
            self.finished.remove(&(at, parent));
            self.failed.remove(&(at, parent));
        }
    }

    /// Makes a batch in state `waiting` wait for these.
    pub(super) fn wait_for(&mut self, slot: u32, waits: Waits, now: Timestamp) {
        let unmet = waits.unmet.clone();
        self.detach(slot);
        self.slab.get_mut(slot).extra_mut().waits = Some(waits);
        self.attach(slot);
        for parent in &unmet {
            self.agenda.insert(*parent);
            self.hold(*parent);
        }
        if unmet.is_empty() {
            self.awake(slot, now);
        }
    }

    /// All that it waited for has completed.
    fn awake(&mut self, slot: u32, now: Timestamp) {
        let record = self.slab.get(slot);
        let delay = record.spec("").delay;
        let due = Timestamp::from_micros(record.registered_at).plus(delay);
        self.change(slot, |record| {
            record.ready();
            record.drop_waits();
            if due > now && !delay.is_zero() {
                record.state = State::Scheduled;
                record.at = due.as_micros();
            }
        });
    }

    /// Works off what ended, a bounded part of it.
    pub(super) fn propagate(&mut self, now: Timestamp) {
        let mut left = PROPAGATE_PER_CALL;
        while left > 0 {
            let Some(parent) = self.agenda.first().copied() else { return };
            let range = (parent, false, 0)..=(parent, true, u64::MAX);
            let edge = self.edges.range(range).next().copied();
            let slot = self.order.get(&parent).copied();
            let state = slot.map(|slot| self.slab.get(slot).state);
            match (edge, state) {
                (Some((_, patient, child)), Some(State::Completed)) => {
                    left -= 1;
                    self.met(parent, patient, child, now);
                }
                // Those that wait for another try come after all others.
                (Some((_, true, _)), Some(_)) | (None, _) => {
                    self.agenda.remove(&parent);
                }
                (Some(_), Some(state)) if !state.is_terminal() => {
                    self.agenda.remove(&parent);
                }
                (Some((_, _, child)), _) => {
                    left = left.saturating_sub(self.drag(parent, slot, child, now).max(1));
                }
            }
        }
    }

    /// One that the child waits for has completed.
    fn met(&mut self, parent: u64, patient: bool, child: u64, now: Timestamp) {
        self.edges.remove(&(parent, patient, child));
        self.let_go(parent);
        let Some(slot) = self.order.get(&child).copied() else { return };
        self.keep(slot);
        let record = self.slab.get_mut(slot);
        let waits = record.extra.as_mut().and_then(|extra| extra.waits.as_mut());
        let Some(waits) = waits else { return };
        waits.unmet.retain(|other| *other != parent);
        let is_awake = waits.unmet.is_empty();
        record.updated_at = now.as_micros();
        if is_awake {
            self.awake(slot, now);
        } else {
            self.note(slot, Some(State::Waiting), None);
        }
    }

    /// One that the child waits for will not complete; answers how many edges
    /// went with it.
    fn drag(&mut self, parent: u64, from: Option<u32>, child: u64, now: Timestamp) -> usize {
        let Some(slot) = self.order.get(&child).copied() else { return 1 };
        let extra = self.slab.get(slot).extra.as_ref();
        let Some(waits) = extra.and_then(|extra| extra.waits.as_ref()) else { return 1 };
        let (edges, on) = (waits.unmet.len(), waits.on);
        let what = from.map_or_else(
            || format!("the batch of record {parent}, which is lost"),
            |from| {
                let record = self.slab.get(from);
                format!("batch {}, which is {}", record.id(), record.state)
            },
        );
        let error = Failure {
            code: Code::FailedPrecondition,
            message: limits::cut(&format!("depends on {what}"), limits::MAX_ERROR_BYTES),
            permanent: true,
            at: now,
        };
        let state = if on == OnParentFailure::Cancel { State::Cancelled } else { State::Failed };
        self.change(slot, |record| {
            record.drop_waits();
            record.extra_mut().error = Some(error);
            record.finish(state, now);
        });
        edges
    }

    /// What the records say is still to be done: to be called once all of
    /// them are loaded, and after some were taken back.
    pub fn finish_load(&mut self) {
        self.first_key = None;
        self.agenda.clear();
        let mut from = 0;
        while let Some((parent, _, _)) = self.edges.range((from, false, 0)..).next().copied() {
            self.agenda.insert(parent);
            self.hold(parent);
            from = parent + 1;
        }
    }
}
