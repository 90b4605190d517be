//! Ends of attempts, starts and extensions.

use std::collections::HashSet;
use std::time::Duration;

use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::{Code, RetryPolicy, Timestamp};

use super::record::{Record, Stored};
use super::register::Entry;
use super::{Engine, fence};
use crate::contract::Error;
use crate::limits::{self, MAX_LOST_LEASES};
use crate::model::{Failure, Fence, Resolution, State};
use crate::request::{
    Extended, Extension, LeaseRef, Outcome, SettleReply, SettleRequest, Settled, Verdict,
};

impl Record {
    /// Charges the attempt of the current lease, once.
    pub(super) fn start(&mut self, now: Timestamp) {
        let Some(held) = self.lease.as_deref_mut() else { return };
        if held.started {
            return;
        }
        held.started = true;
        self.attempts = self.attempts.saturating_add(1);
        if self.first_attempt_at == 0 {
            self.first_attempt_at = now.as_micros();
        }
    }

    /// Into a terminal state.
    pub(super) fn finish(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.at = now.as_micros();
        self.lease = None;
        self.drop_waits();
    }

    /// Back to the ready ones.
    pub(super) fn ready(&mut self) {
        self.state = State::Pending;
        self.at = 0;
        self.lease = None;
    }

    /// The attempt is over without having counted.
    fn release(&mut self, outcome: &Outcome, now: Timestamp) {
        if self.lease.as_ref().is_some_and(|held| held.started) {
            self.attempts = self.attempts.saturating_sub(1);
            if self.attempts == 0 {
                self.first_attempt_at = 0;
            }
        }
        if let Some(error) = &outcome.error {
            self.extra_mut().error = Some(Failure { at: now, ..limits::failure(error) });
        }
        self.rest(outcome.delay, now);
    }

    /// Back to the ready ones after a while.
    fn rest(&mut self, delay: Duration, now: Timestamp) {
        self.ready();
        if !delay.is_zero() {
            self.state = State::Scheduled;
            self.at = now.plus(delay).as_micros();
        }
    }

    fn policy(&self, default: &RetryPolicy) -> RetryPolicy {
        self.spec("").retry.unwrap_or_else(|| default.clone())
    }

    /// How long until the next attempt; `None` where there is none.
    fn retry_delay(&self, default: &RetryPolicy, now: Timestamp) -> Option<Duration> {
        let policy = self.policy(default);
        let retry = self.attempts.saturating_sub(1);
        let delay = policy.delay(retry, fence::unit(self.id(), self.attempts))?;
        let first = Timestamp::from_micros(self.first_attempt_at);
        let in_time = policy
            .deadline_ms
            .is_none_or(|limit| now.plus(delay) <= first.plus(Duration::from_millis(limit)));
        in_time.then_some(delay)
    }

    fn fail(&mut self, error: Option<&Failure>, default: &RetryPolicy, now: Timestamp) {
        self.start(now);
        let mut error = error.map_or_else(
            || Failure {
                code: Code::ProcessorFailed,
                message: "the worker gave no reason".to_owned(),
                permanent: false,
                at: now,
            },
            limits::failure,
        );
        error.at = now;
        let delay = if error.permanent { None } else { self.retry_delay(default, now) };
        self.extra_mut().error = Some(error);
        match delay {
            None => self.finish(State::Failed, now),
            Some(delay) => self.rest(delay, now),
        }
    }

    /// The lease ran out. Attempts that were charged are used up: a batch
    /// that kills its workers must not run more often than its policy says.
    pub(super) fn lose(&mut self, default: &RetryPolicy, now: Timestamp) {
        let started = self.lease.as_ref().is_some_and(|held| held.started);
        self.lost_leases = self.lost_leases.saturating_add(1);
        let worker = self.lease.as_ref().map_or_else(String::new, |held| held.worker.to_string());
        let exhausted = started && self.attempts > self.policy(default).max_retries;
        if !exhausted && self.lost_leases < MAX_LOST_LEASES {
            return self.ready();
        }
        let message = format!(
            "the lease of worker {worker:?} ran out; {} leases were lost and {} attempts charged",
            self.lost_leases, self.attempts
        );
        let error = Failure { code: Code::LeaseLost, message, permanent: exhausted, at: now };
        self.extra_mut().error = Some(limits::failure(&error));
        self.finish(State::Failed, now);
    }

    /// Stands in for a record that could not be read.
    pub(super) fn damaged(
        id: &BatchId,
        queue: u32,
        sequence: u64,
        why: &str,
        now: Timestamp,
    ) -> Self {
        let error = Failure {
            code: Code::Corrupt,
            message: limits::cut(why, limits::MAX_ERROR_BYTES),
            permanent: true,
            at: now,
        };
        let batch = proto::Batch {
            registered_at: now.as_micros(),
            updated_at: now.as_micros(),
            finished_at: now.as_micros(),
            ..proto::Batch::default()
        };
        let mut stored = Stored {
            id: id.clone(),
            state: State::Failed,
            settled: None,
            lease: None,
            extra: None,
        };
        stored.extra.get_or_insert_default().error = Some(error);
        Record::from_stored(batch, stored, queue, sequence, 0)
    }
}

impl Engine {
    /// Ends attempts, starts prefetched ones and claims the next, in one step.
    ///
    /// Outputs are derived from admitted work, so a draining queue takes them.
    ///
    /// # Errors
    /// `Invalid`, `Limit`, and `Conflict`, `Precondition` or `Unavailable` for
    /// outputs. Nothing has then changed.
    pub fn settle(
        &mut self,
        request: &SettleRequest,
        now: Timestamp,
    ) -> Result<SettleReply, Error> {
        limits::settle(request)?;
        self.admit_outputs(request, now.max(self.now))?;
        let now = self.advance(now);
        let mut reply = SettleReply::default();
        let mut entry = Entry::default();
        for outcome in &request.outcomes {
            reply.outcomes.push(self.end(outcome, now, &mut entry)?);
        }
        self.finish_entry(entry, now);
        self.propagate(now);
        for lease in &request.started {
            let verdict = self.begin(lease, now);
            reply.started.push(self.settled(&lease.id, verdict));
        }
        reply.claim = request.claim.as_ref().map(|claim| self.take(claim, now));
        Ok(reply)
    }

    fn admit_outputs(&self, request: &SettleRequest, now: Timestamp) -> Result<(), Error> {
        let mut ending: HashSet<&BatchId> = HashSet::new();
        let mut outputs = Vec::new();
        for outcome in request.outcomes.iter().filter(|outcome| !outcome.outputs.is_empty()) {
            let slot = self.find_id(&outcome.lease.id);
            let stands = slot.is_some_and(|slot| {
                self.slab.get(slot).standing(outcome.lease.fence, now).is_some()
            });
            if stands && ending.insert(&outcome.lease.id) {
                outputs.extend(&outcome.outputs);
            }
        }
        if outputs.is_empty() { Ok(()) } else { self.admit(outputs.into_iter(), false) }
    }

    fn end(
        &mut self,
        outcome: &Outcome,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<Settled, Error> {
        let default = self.config.retry.clone();
        let fence = outcome.lease.fence.0;
        let mut unused = None;
        let verdict = self.with_lease(&outcome.lease, now, |record| {
            match outcome.resolution {
                Resolution::Completed => {
                    record.start(now);
                    record.finish(State::Completed, now);
                    if !outcome.outputs.is_empty() {
                        let ids = outcome.outputs.iter().map(|spec| spec.id.clone());
                        record.extra_mut().outputs = ids.collect();
                    }
                }
                Resolution::Failed => record.fail(outcome.error.as_ref(), &default, now),
                Resolution::Released => {
                    let started = record.lease.as_ref().is_none_or(|held| held.started);
                    unused = (!started).then_some(record.queue);
                    record.release(outcome, now);
                }
            }
            record.settled = Some(outcome.resolution);
            record.settled_fence = fence;
            record.lost_leases = 0;
        });
        let verdict = match (verdict, self.find_id(&outcome.lease.id)) {
            (Verdict::Stale, Some(slot)) if self.is_repeat(slot, outcome) => Verdict::AlreadyDone,
            (verdict, _) => verdict,
        };
        if let Some(queue) = unused {
            self.give_back(queue);
        }
        if verdict == Verdict::Applied {
            for spec in &outcome.outputs {
                self.enter(spec, now, entry)?;
            }
        }
        Ok(self.settled(&outcome.lease.id, verdict))
    }

    fn begin(&mut self, lease: &LeaseRef, now: Timestamp) -> Verdict {
        let started = self.find_id(&lease.id).is_some_and(|slot| {
            let standing = self.slab.get(slot).standing(lease.fence, now);
            standing.is_some_and(|held| held.started)
        });
        if started {
            return Verdict::AlreadyDone;
        }
        self.with_lease(lease, now, |record| record.start(now))
    }

    fn is_repeat(&self, slot: u32, outcome: &Outcome) -> bool {
        let record = self.slab.get(slot);
        record.settled_fence == outcome.lease.fence.0 && record.settled == Some(outcome.resolution)
    }

    /// Changes a batch if the lease stands; one that ran out unnoticed is reaped.
    fn with_lease(
        &mut self,
        lease: &LeaseRef,
        now: Timestamp,
        change: impl FnOnce(&mut Record),
    ) -> Verdict {
        let Some(slot) = self.find_id(&lease.id) else { return Verdict::NotFound };
        let record = self.slab.get(slot);
        if record.standing(lease.fence, now).is_some() {
            self.change(slot, change);
            return Verdict::Applied;
        }
        if record.lease.as_ref().is_some_and(|held| held.deadline <= now.as_micros()) {
            self.reap(slot);
        }
        Verdict::Stale
    }

    pub(super) fn settled(&self, id: &BatchId, verdict: Verdict) -> Settled {
        let state = self.find_id(id).map(|slot| self.slab.get(slot).state);
        Settled { id: id.clone(), verdict, state }
    }

    /// Prolongs leases.
    ///
    /// # Errors
    /// `Invalid` and `Limit`; nothing has then changed.
    pub fn extend(&mut self, leases: &[Extension], now: Timestamp) -> Result<Vec<Extended>, Error> {
        limits::extend(leases)?;
        let now = self.advance(now);
        Ok(leases.iter().map(|extension| self.prolong(extension, now)).collect())
    }

    fn prolong(&mut self, extension: &Extension, now: Timestamp) -> Extended {
        let mut deadline = None;
        let verdict = self.with_lease(&extension.lease, now, |record| {
            if let Some(held) = record.lease.as_deref_mut() {
                if let Some(duration) = extension.duration {
                    held.duration = duration;
                }
                let end = now.plus(held.duration);
                held.deadline = end.as_micros();
                deadline = Some(end);
            }
            if extension.started {
                record.start(now);
            }
            if let Some(progress) = &extension.progress {
                record.extra_mut().progress = Some(limits::progress(progress));
            }
        });
        let id = extension.lease.id.clone();
        let cancelled = self.find_id(&id).is_some_and(|slot| {
            let record = self.slab.get(slot);
            record.state == State::Cancelled && Fence(record.last_fence) == extension.lease.fence
        });
        Extended { id, verdict, deadline, cancelled }
    }
}
