//! What time brings about, a bounded part of it at once.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_retry::Timestamp;

use super::Engine;
use super::record::Micros;
use crate::model::State;

/// Most scheduled batches that one call makes pending.
pub const PROMOTE_PER_CALL: usize = 256;
/// Most dead leases that one call takes back.
pub const REAP_PER_CALL: usize = 64;
/// Most batches that one call expires.
pub const EXPIRE_PER_CALL: usize = 64;
/// Most terminal batches of a kind that one call forgets.
pub const PURGE_PER_CALL: usize = 256;

fn first(index: &BTreeSet<(Micros, u64)>, until: Micros) -> Option<u64> {
    index.first().filter(|(at, _)| *at <= until).map(|(_, sequence)| *sequence)
}

impl Engine {
    /// Expires, reaps, promotes and forgets what is due at `now`; when more
    /// is left than one call does, [`Engine::next_timer`] is not after `now`.
    pub fn tick(&mut self, now: Timestamp) {
        let now = self.advance(now);
        let micros = now.as_micros();
        for _ in 0..EXPIRE_PER_CALL {
            let Some(slot) = self.first_slot(&self.expiry, micros) else { break };
            self.change(slot, |record| record.finish(State::Expired, now));
        }
        for _ in 0..REAP_PER_CALL {
            let Some(slot) = self.first_slot(&self.deadlines, micros) else { break };
            self.reap(slot);
        }
        for _ in 0..PROMOTE_PER_CALL {
            let Some(slot) = self.first_slot(&self.due, micros) else { break };
            self.change(slot, super::record::Record::ready);
        }
        self.propagate(now);
        self.forget_keys(now);
        while let Some((at, queue)) = self.throttled.first().copied().filter(|t| t.0 <= micros) {
            self.throttled.remove(&(at, queue));
            let queue = self.queues.get_mut(queue);
            queue.throttled_until = 0;
            self.ready |= queue.ready.is_open();
        }
        for _ in 0..PURGE_PER_CALL {
            let Some(slot) = self.surplus(now) else { break };
            self.purge(slot);
        }
    }

    fn first_slot(&self, index: &BTreeSet<(Micros, u64)>, until: Micros) -> Option<u32> {
        self.order.get(&first(index, until)?).copied()
    }

    pub(super) fn reap(&mut self, slot: u32) {
        let (default, now) = (self.config.retry.clone(), self.now);
        self.change(slot, |record| record.lose(&default, now));
    }

    /// A terminal batch that is older than is kept, or one too many.
    fn surplus(&self, now: Timestamp) -> Option<u32> {
        let kinds = [
            (&self.finished, self.config.keep_finished, self.config.max_finished),
            (&self.failed, self.config.keep_failed, self.config.max_failed),
        ];
        let sequence = kinds.into_iter().find_map(|(index, keep, most)| {
            let until = now.as_micros().checked_sub(as_micros(keep));
            let old = until.and_then(|until| first(index, until));
            let many = || index.first().filter(|_| index.len() > most).map(|(_, at)| *at);
            old.or_else(many)
        })?;
        self.order.get(&sequence).copied()
    }

    /// When time next brings something about.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let at = |index: &BTreeSet<(Micros, u64)>| index.first().map(|(at, _)| *at);
        let plus = |index, keep| at(index).map(|at| at.saturating_add(as_micros(keep)));
        let over = self.finished.len() > self.config.max_finished
            || self.failed.len() > self.config.max_failed;
        let times = [
            at(&self.expiry),
            at(&self.deadlines),
            at(&self.due),
            plus(&self.finished, self.config.keep_finished),
            plus(&self.failed, self.config.keep_failed),
            over.then_some(0),
            self.throttled.first().map(|(at, _)| *at),
            self.key_times.first().map(|(at, _)| *at),
            (!self.agenda.is_empty()).then_some(0),
        ];
        times.into_iter().flatten().min().map(Timestamp::from_micros)
    }
}

fn as_micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
