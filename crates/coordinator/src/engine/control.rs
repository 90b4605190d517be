//! Changes by hand.

use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use super::Engine;
use super::record::Waits;
use crate::contract::Error;
use crate::limits::{self, MAX_ITEMS, at_most};
use crate::model::State;
use crate::policy::QueuePolicy;
use crate::request::{Control, ControlReply, PurgeFilter, Verdict};

/// Batches that one step of a sweeping control looks at.
const SCAN: usize = 2_048;
/// Batches that one step of a sweeping control changes.
const STEP: u64 = 512;

impl Engine {
    /// Does a change by hand, or a step of it.
    ///
    /// Those that sweep over a queue (`RequeueFailed`, `Purge`, `Expire`) do a
    /// bounded step and answer where to go on; the first step begins at 0.
    /// The count is that of the step.
    ///
    /// # Errors
    /// `Invalid` and `Limit`; nothing has then changed.
    pub fn control(
        &mut self,
        control: &Control,
        from: u64,
        now: Timestamp,
    ) -> Result<(ControlReply, Option<u64>), Error> {
        let now = self.advance(now);
        match control {
            Control::Pause(name) => self.switch(name, true, |queue| queue.paused = true),
            Control::Drain(name) => self.switch(name, true, |queue| queue.draining = true),
            Control::Resume(name) => self.switch(name, false, |queue| {
                queue.paused = false;
                queue.draining = false;
            }),
            Control::Configure(name, policy) => {
                limits::policy(policy)?;
                self.configure(name, policy, now)
            }
            Control::Cancel(ids) => self.each(ids, |engine, slot| engine.cancel(slot, now)),
            Control::Requeue(ids) => self.each(ids, |engine, slot| engine.requeue(slot, now)),
            Control::RequeueFailed(name) => {
                let queue = self.queues.find(limits::queue(name)?);
                Ok(self.sweep(from, |engine, slot| {
                    let record = engine.slab.get(slot);
                    record.state == State::Failed
                        && Some(record.queue) == queue
                        && engine.requeue(slot, now) == Verdict::Applied
                }))
            }
            Control::Purge(filter) => {
                if let Some(state) = filter.states.iter().find(|state| !state.is_terminal()) {
                    let problem = format!("{state} is not terminal; only terminal batches go");
                    return Err(Error::Invalid { field: "states", problem });
                }
                Ok(self.sweep(from, |engine, slot| engine.purge_if(slot, filter, now)))
            }
            Control::Expire(age) => Ok(self.sweep(from, |engine, slot| {
                let record = engine.slab.get(slot);
                let old = now.since(Timestamp::from_micros(record.registered_at)) >= *age;
                let expires = old && record.state.is_unclaimed();
                if expires {
                    engine.change(slot, |record| record.finish(State::Expired, now));
                }
                expires
            })),
        }
    }

    fn switch(
        &mut self,
        name: &str,
        create: bool,
        set: impl FnOnce(&mut super::queue::Queue),
    ) -> Result<(ControlReply, Option<u64>), Error> {
        let name = limits::queue(name)?;
        let number = if create { Some(self.queues.ensure(name)?) } else { self.queues.find(name) };
        if let Some(number) = number {
            let queue = self.queues.get_mut(number);
            set(queue);
            queue.dirty = true;
            self.ready |= !queue.paused && queue.ready.is_open();
        }
        Ok((ControlReply::default(), None))
    }

    fn configure(
        &mut self,
        name: &str,
        policy: &QueuePolicy,
        now: Timestamp,
    ) -> Result<(ControlReply, Option<u64>), Error> {
        let number = self.queues.ensure(limits::queue(name)?)?;
        let queue = self.queues.get_mut(number);
        let full_at = queue.bucket.as_ref().map_or(0, super::bucket::Bucket::full_at_ns);
        queue.configure(policy, full_at, now);
        queue.dirty = true;
        self.throttle(number);
        self.ready = true;
        Ok((ControlReply::default(), None))
    }

    fn each(
        &mut self,
        ids: &[BatchId],
        mut change: impl FnMut(&mut Self, u32) -> Verdict,
    ) -> Result<(ControlReply, Option<u64>), Error> {
        at_most("ids", ids.len(), MAX_ITEMS)?;
        let mut reply = ControlReply::default();
        for id in ids {
            let verdict = self.find_id(id).map_or(Verdict::NotFound, |slot| change(self, slot));
            reply.count += u64::from(verdict == Verdict::Applied);
            reply.batches.push(self.settled(id, verdict));
        }
        self.propagate(self.now);
        for settled in &mut reply.batches {
            settled.state = self.settled(&settled.id, settled.verdict).state;
        }
        Ok((reply, None))
    }

    fn sweep(
        &mut self,
        from: u64,
        mut change: impl FnMut(&mut Self, u32) -> bool,
    ) -> (ControlReply, Option<u64>) {
        let seen: Vec<(u64, u32)> =
            self.order.range(from..).take(SCAN).map(|(at, slot)| (*at, *slot)).collect();
        let mut rest = (seen.len() == SCAN).then(|| seen[SCAN - 1].0 + 1);
        let mut reply = ControlReply::default();
        for (sequence, slot) in seen {
            reply.count += u64::from(change(self, slot));
            if reply.count == STEP {
                rest = Some(sequence + 1);
                break;
            }
        }
        (reply, rest)
    }

    fn cancel(&mut self, slot: u32, now: Timestamp) -> Verdict {
        match self.slab.get(slot).state {
            State::Cancelled => Verdict::AlreadyDone,
            state if state.is_terminal() => Verdict::Stale,
            _ => {
                self.change(slot, |record| record.finish(State::Cancelled, now));
                Verdict::Applied
            }
        }
    }

    fn requeue(&mut self, slot: u32, now: Timestamp) -> Verdict {
        let record = self.slab.get(slot);
        match record.state {
            State::Waiting | State::Pending | State::Scheduled => return Verdict::AlreadyDone,
            State::Processing => return Verdict::Stale,
            _ => {}
        }
        let spec = record.spec("");
        let expires = spec.expires_after.map_or(0, |after| now.plus(after).as_micros());
        // What is no longer known cannot be waited for.
        let unmet = self.unmet(spec.depends_on.iter());
        let waits = !unmet.is_empty();
        self.change(slot, |record| {
            record.ready();
            record.attempts = 0;
            record.lost_leases = 0;
            record.first_attempt_at = 0;
            record.expires_at = expires;
            record.extra = None;
            if waits {
                record.state = State::Waiting;
            }
        });
        if waits {
            self.wait_for(slot, Waits { on: spec.on_parent_failure, unmet }, now);
        }
        Verdict::Applied
    }

    fn purge_if(&mut self, slot: u32, filter: &PurgeFilter, now: Timestamp) -> bool {
        let record = self.slab.get(slot);
        let queue = &self.queues.get(record.queue).name;
        let old = now.since(Timestamp::from_micros(record.at)) >= filter.finished_before;
        let matches = record.state.is_terminal()
            && !self.has_children(record.sequence)
            && old
            && (filter.states.is_empty() || filter.states.contains(&record.state))
            && filter.queue.as_deref().is_none_or(|name| name == &**queue);
        if matches {
            self.purge(slot);
        }
        matches
    }
}
