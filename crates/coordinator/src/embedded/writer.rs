//! The one thread that owns the engine and the file.
//!
//! It takes all calls that have come in, applies them, commits once, and only
//! then answers. Claims that find nothing are parked here and tried again
//! whenever work became ready. Questions are answered between commits, so that
//! nobody reads what could still be lost.

use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{Code, Retryable as _, SharedClock, Timestamp};

use super::disk::Disk;
use super::mailbox::{Call, CopyCall, Mailbox, Patience, Reply};
use super::metrics::Metrics;
use super::parked::{Parked, Parking, Waiter};
use super::time::Time;
use super::watchers::Watchers;
use crate::contract::Error;
use crate::engine::Engine;
use crate::request::{
    Answer, Claim, ClaimRequest, Control, ControlReply, Extended, Query, Registered, SettleReply,
    SettleRequest,
};

/// Most calls of one commit.
const GROUP: usize = 4_096;
/// Longest sleep: the clock may not be the machine's.
const IDLE: Duration = Duration::from_secs(1);
/// Batches that a list looks at in one go, between two commits.
pub(super) const SCAN: usize = 1_024;

/// An answer that waits for the commit.
enum Due {
    Registered(Reply<Vec<Registered>>, Vec<Registered>),
    Claimed(Reply<Claim>, Claim),
    Settled(Reply<SettleReply>, SettleReply),
    Extended(Reply<Vec<Extended>>, Vec<Extended>),
    Controlled(Reply<ControlReply>, ControlReply),
    Woken(Reply<()>),
    Parked(Parked),
}

/// A control that sweeps, between two of its steps.
struct Sweep {
    control: Control,
    from: u64,
    done: u64,
    reply: Reply<ControlReply>,
}

pub(super) struct Writer {
    pub(super) engine: Engine,
    /// With [`Durability::Disk`](super::Durability::Disk): where groups go.
    pub(super) disk: Option<Disk>,
    /// With [`Durability::Memory`](super::Durability::Memory): where the snapshot goes.
    pub(super) at_close: Option<Disk>,
    pub(super) time: Time,
    pub(super) clock: SharedClock,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: Metrics,
    pub(super) parking: Parking,
    pub(super) watchers: Watchers,
    due: Vec<Due>,
    sweeps: Vec<Sweep>,
    questions: Vec<(Query, Reply<Answer>)>,
    copies: Vec<CopyCall>,
    /// A claim was parked that there is something for.
    again: bool,
    /// How long the commit of this group took.
    took: Duration,
}

/// What one caller of a group is told that failed as a whole.
fn again(error: &Error) -> Error {
    let cause = std::error::Error::source(error).map_or_else(String::new, |e| format!(": {e}"));
    Error::Backend { operation: format!("{error}{cause}"), code: error.code(), source: None }
}

fn refuse_copy(call: CopyCall, error: &Error) {
    match call {
        CopyCall::Begin(reply) => answer(reply, Err(again(error))),
        CopyCall::Part(reply) => answer(reply, Err(again(error))),
        CopyCall::End => {}
    }
}

/// A caller that no longer listens has dropped its call; what was done stays
/// done, and sent again it is answered the same.
fn answer<T>(reply: Reply<T>, value: Result<T, Error>) {
    drop(reply.send(value));
}

impl Writer {
    pub(super) fn new(
        engine: Engine,
        time: Time,
        clock: SharedClock,
        mailbox: Arc<Mailbox>,
        metrics: Metrics,
        config: &super::Config,
    ) -> Self {
        Writer {
            engine,
            disk: None,
            at_close: None,
            time,
            clock,
            mailbox,
            metrics,
            parking: Parking::new(config.max_waiting),
            watchers: Watchers::new(config.max_watchers, config.watch_buffer),
            due: Vec::new(),
            sweeps: Vec::new(),
            questions: Vec::new(),
            copies: Vec::new(),
            again: false,
            took: Duration::ZERO,
        }
    }

    /// Works until the mailbox is closed and empty.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let mut sleep = Duration::ZERO;
        let mut patience = Patience::default();
        while let Some(calls) = self.mailbox.take(GROUP, sleep, &patience) {
            let count = calls.len();
            self.took = Duration::ZERO;
            self.group(calls);
            if count > 0 {
                patience.learn(count, self.took);
            }
            sleep = self.sleep();
        }
        for waiter in self.parking.clear() {
            waiter.answer(Ok(Claim { now: self.engine.now(), ..Claim::default() }));
        }
        for sweep in std::mem::take(&mut self.sweeps) {
            answer(sweep.reply, Err(super::mailbox::closed()));
        }
        self.at_close.as_mut().map_or(Ok(()), |disk| disk.snapshot(&self.engine))
    }

    fn sleep(&mut self) -> Duration {
        if !self.sweeps.is_empty() || self.again {
            return Duration::ZERO;
        }
        let now = self.engine.now();
        let timers = [self.engine.next_timer(), self.parking.next_deadline()];
        let next = timers.into_iter().flatten().min();
        let pause = next.map_or(IDLE, |at| at.since(now).min(IDLE));
        // While the disk does not take what is due there is nothing to hurry for.
        if pause.is_zero() && self.disk.as_ref().is_some_and(Disk::is_suspect) {
            IDLE
        } else {
            pause
        }
    }

    /// Applies, commits, answers.
    fn group(&mut self, calls: Vec<Call>) {
        let now = self.time.now();
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.heal(&mut self.engine)
        {
            let whole = disk.is_whole();
            self.refuse(calls, &error, whole);
            self.end_waits(now);
            return;
        }
        self.watchers.tidy();
        self.engine.observe(!self.watchers.is_empty());
        self.engine.tick(now);
        self.step_sweeps(now);
        for call in calls {
            self.call(call, now);
        }
        self.serve_parked(now);
        self.commit();
        for (query, reply) in std::mem::take(&mut self.questions) {
            if !reply.is_closed() {
                answer(reply, self.engine.query(&query, SCAN));
            }
        }
        for call in std::mem::take(&mut self.copies) {
            self.copy(call);
        }
        self.end_waits(self.engine.now());
        self.metrics.waiting.set(i64::try_from(self.parking.len()).unwrap_or(i64::MAX));
        self.metrics.count(self.clock.elapsed(), || self.engine.totals());
    }

    /// Claims that have waited long enough get nothing.
    fn end_waits(&mut self, now: Timestamp) {
        for waiter in self.parking.expired(now) {
            waiter.answer(Ok(Claim { now, ..Claim::default() }));
        }
    }

    fn call(&mut self, call: Call, now: Timestamp) {
        match call {
            Call::Register(specs, reply) => match self.engine.register(&specs, now) {
                Ok(registered) => self.due.push(Due::Registered(reply, registered)),
                Err(error) => answer(reply, Err(error)),
            },
            Call::Claim(request, reply) => self.claim(request, reply, now),
            Call::Settle(request, reply) => self.settle(request, reply, now),
            Call::Extend(leases, reply) => match self.engine.extend(&leases, now) {
                Ok(extended) => self.due.push(Due::Extended(reply, extended)),
                Err(error) => answer(reply, Err(error)),
            },
            Call::Control(control, reply) => {
                self.step(Sweep { control, from: 0, done: 0, reply }, now);
            }
            Call::Query(query, reply) => self.questions.push((query, reply)),
            Call::Watch(filter, reply) => answer(reply, self.watchers.add(filter)),
            // A copy is of what is stored, so its point is after the commit.
            Call::Copy(call) => self.copies.push(call),
            Call::Wake(reply) => self.due.push(Due::Woken(reply)),
        }
    }

    fn claim(&mut self, request: ClaimRequest, reply: Reply<Claim>, now: Timestamp) {
        if reply.is_closed() {
            return;
        }
        match self.engine.claim(&request, now) {
            Ok(claim) if claim.leases.is_empty() && !request.wait.is_zero() => {
                if self.parking.is_full() {
                    return answer(reply, Err(self.parking.refusal()));
                }
                let until = now.plus(request.wait);
                self.parking.add(Parked { request, until, waiter: Waiter::Claim(reply) });
            }
            Ok(claim) => self.due.push(Due::Claimed(reply, claim)),
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn settle(&mut self, mut request: SettleRequest, reply: Reply<SettleReply>, now: Timestamp) {
        let settled = match self.engine.settle(&request, now) {
            Ok(settled) => settled,
            Err(error) => return answer(reply, Err(error)),
        };
        let empty = settled.claim.as_ref().is_some_and(|claim| claim.leases.is_empty());
        match request.claim.take() {
            Some(claim) if empty && !claim.wait.is_zero() && !self.parking.is_full() => {
                let until = now.plus(claim.wait);
                let waiter = Waiter::Settle(settled, reply);
                // Parked only once the settle is durable.
                self.due.push(Due::Parked(Parked { request: claim, until, waiter }));
            }
            _ => self.due.push(Due::Settled(reply, settled)),
        }
    }

    fn copy(&mut self, call: CopyCall) {
        match call {
            CopyCall::Begin(reply) => {
                let head = self.engine.begin_copy().ok_or_else(|| Error::Unavailable {
                    problem: "makes a copy of its state already; wait for it to end".to_owned(),
                    code: Code::Overloaded,
                });
                answer(reply, head);
            }
            CopyCall::Part(reply) => {
                let part = self.engine.copy_part().ok_or_else(|| Error::Unavailable {
                    problem: "gave up the copy: what it stored meanwhile had to be undone"
                        .to_owned(),
                    code: Code::Unavailable,
                });
                answer(reply, part);
            }
            CopyCall::End => self.engine.end_copy(),
        }
    }

    fn step_sweeps(&mut self, now: Timestamp) {
        for sweep in std::mem::take(&mut self.sweeps) {
            self.step(sweep, now);
        }
    }

    fn step(&mut self, mut sweep: Sweep, now: Timestamp) {
        match self.engine.control(&sweep.control, sweep.from, now) {
            Err(error) => answer(sweep.reply, Err(error)),
            Ok((reply, Some(rest))) => {
                sweep.from = rest;
                sweep.done += reply.count;
                self.sweeps.push(sweep);
            }
            Ok((mut reply, None)) => {
                reply.count += sweep.done;
                self.due.push(Due::Controlled(sweep.reply, reply));
            }
        }
    }

    fn serve_parked(&mut self, now: Timestamp) {
        let again = std::mem::take(&mut self.again);
        if !self.engine.take_ready() && !again {
            return;
        }
        let engine = &mut self.engine;
        let served = self.parking.take_if(|request| {
            // One that was sent twice has what it got the first time.
            if !engine.has_work(request) && !engine.holds(request) {
                return None;
            }
            // Parked requests were checked when they came in.
            engine.claim(request, now).ok().filter(|claim| !claim.leases.is_empty())
        });
        for (waiter, claim) in served {
            self.due.push(match waiter {
                Waiter::Claim(reply) => Due::Claimed(reply, claim),
                Waiter::Settle(mut settled, reply) => {
                    settled.claim = Some(claim);
                    Due::Settled(reply, settled)
                }
            });
        }
    }

    fn commit(&mut self) {
        let effects = self.engine.take_effects();
        let nothing =
            effects.written.is_empty() && effects.removed.is_empty() && effects.queues.is_empty();
        let mut took = None;
        if let Some(disk) = self.disk.as_mut().filter(|_| !nothing) {
            let start = self.clock.elapsed();
            if let Err(error) = disk.commit(&self.engine, &effects) {
                tracing::error!(error = %again(&error), "a group of calls could not be stored");
                self.metrics.failures.inc();
                return self.undo(&error);
            }
            took = Some(self.clock.elapsed().saturating_sub(start));
        }
        self.took = took.unwrap_or_default();
        self.metrics.committed(&effects, took);
        self.watchers.publish(&effects.changes);
        for due in std::mem::take(&mut self.due) {
            self.deliver(due);
        }
    }

    fn deliver(&mut self, due: Due) {
        match due {
            Due::Registered(reply, value) => answer(reply, Ok(value)),
            Due::Claimed(reply, value) => {
                self.count_claim(&value);
                answer(reply, Ok(value));
            }
            Due::Settled(reply, value) => {
                if let Some(claim) = &value.claim {
                    self.count_claim(claim);
                }
                answer(reply, Ok(value));
            }
            Due::Extended(reply, value) => answer(reply, Ok(value)),
            Due::Controlled(reply, value) => answer(reply, Ok(value)),
            Due::Woken(reply) => answer(reply, Ok(())),
            Due::Parked(parked) => {
                // What came in the same group became ready before it was here.
                self.again |= self.engine.has_work(&parked.request);
                self.parking.add(parked);
            }
        }
    }

    fn count_claim(&self, claim: &Claim) {
        self.metrics.claims.inc_by(u64::from(!claim.leases.is_empty()));
        self.metrics.claimed.inc_by(claim.leases.len() as u64);
    }

    /// Nothing of this group happened.
    fn undo(&mut self, error: &Error) {
        self.engine.end_copy();
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.roll_back(&mut self.engine)
        {
            tracing::error!(error = %again(&error), "the database could not be opened again");
        }
        for due in std::mem::take(&mut self.due) {
            match due {
                Due::Registered(reply, _) => answer(reply, Err(again(error))),
                Due::Claimed(reply, _) => answer(reply, Err(again(error))),
                Due::Settled(reply, _) => answer(reply, Err(again(error))),
                Due::Extended(reply, _) => answer(reply, Err(again(error))),
                Due::Controlled(reply, _) => answer(reply, Err(again(error))),
                Due::Woken(reply) => answer(reply, Err(again(error))),
                Due::Parked(parked) => parked.waiter.answer(Err(again(error))),
            }
        }
        for sweep in std::mem::take(&mut self.sweeps) {
            answer(sweep.reply, Err(again(error)));
        }
        for (query, reply) in std::mem::take(&mut self.questions) {
            let whole = self.disk.as_ref().is_none_or(Disk::is_whole);
            answer(reply, if whole { self.engine.query(&query, SCAN) } else { Err(again(error)) });
        }
        for call in std::mem::take(&mut self.copies) {
            refuse_copy(call, error);
        }
    }

    /// The disk does not take writes: only questions are answered.
    fn refuse(&mut self, calls: Vec<Call>, error: &Error, whole: bool) {
        for call in calls {
            match call {
                Call::Query(query, reply) if whole => {
                    answer(reply, self.engine.query(&query, SCAN));
                }
                Call::Register(_, reply) => answer(reply, Err(again(error))),
                Call::Claim(_, reply) => answer(reply, Err(again(error))),
                Call::Settle(_, reply) => answer(reply, Err(again(error))),
                Call::Extend(_, reply) => answer(reply, Err(again(error))),
                Call::Control(_, reply) => answer(reply, Err(again(error))),
                Call::Query(_, reply) => answer(reply, Err(again(error))),
                Call::Watch(filter, reply) => answer(reply, self.watchers.add(filter)),
                Call::Copy(call) if whole => self.copy(call),
                Call::Copy(call) => refuse_copy(call, error),
                Call::Wake(reply) => answer(reply, Err(again(error))),
            }
        }
    }
}
