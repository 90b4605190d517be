//! What the pool holds and what it must say next: decisions without effects.
//!
//! The driver feeds it replies and the time; it answers with work to start,
//! work to cancel and calls to send. It never talks to anyone, so its rules
//! are tested without a runtime.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sheaf_coordinator::{
    ClaimRequest, Extended, Extension, Lease, LeaseRef, Outcome, Progress, Settled, Verdict,
};
use sheaf_proto::BatchId;

use crate::config::Config;

/// Most outcomes in one settle.
const MAX_OUTCOMES: usize = 256;

#[derive(Debug)]
enum Phase {
    /// Claimed, waits for a free slot.
    Ready,
    /// A slot works on it.
    Running,
    /// Ended; the outcome is on its way or waits to be sent.
    Settling,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    phase: Phase,
    /// By the pool's monotonic clock. Late by as long as the answer to the
    /// claim travelled, until the first extension, which counts from before it
    /// was sent; whether a commit is allowed is not decided by it.
    valid_until: Duration,
}

/// What the coordinator must be told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) started: Vec<LeaseRef>,
}

impl Report {
    pub(crate) fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.started.is_empty()
    }
}

/// Everything that a pool holds.
#[derive(Debug)]
pub(crate) struct Board {
    slots: usize,
    prefetch: usize,
    max_bytes: u64,
    /// 0 is no bound.
    max_rows: u64,
    held: HashMap<BatchId, Held>,
    ready: VecDeque<LeaseRef>,
    running: usize,
    report: Report,
    /// Outcomes with outputs go out one by one, until none is left.
    isolating: bool,
}

impl Board {
    pub(crate) fn new(config: &Config) -> Self {
        Board {
            slots: config.worker_count,
            prefetch: config.prefetch,
            max_bytes: config.max_bytes,
            max_rows: config.max_rows,
            held: HashMap::new(),
            ready: VecDeque::new(),
            running: 0,
            report: Report::default(),
            isolating: false,
        }
    }

    /// How many batches and bytes to ask for; `None` while it holds enough.
    pub(crate) fn wanted(&self) -> Option<(u32, u64)> {
        let room = (self.slots + self.prefetch).saturating_sub(self.running + self.ready.len());
        let unsettled = self.held.len().saturating_sub(self.running + self.ready.len());
        // A coordinator that takes no results gets no more work out of it.
        let room = room.min((4 * (self.slots + self.prefetch)).saturating_sub(unsettled));
        let bytes = self.max_bytes.saturating_sub(self.sum(|lease| lease.spec.bytes));
        let full = bytes == 0 || self.rows_left() == Some(0);
        // One batch larger than the whole budget is taken, but only by an idle slot.
        if room == 0 || (full && self.running + self.ready.len() >= self.slots) {
            return None;
        }
        Some((u32::try_from(room).unwrap_or(u32::MAX).min(1024), bytes.max(1)))
    }

    /// How many rows to ask for, where they are bounded.
    pub(crate) fn rows_left(&self) -> Option<u64> {
        let held = || self.sum(|lease| lease.spec.rows);
        (self.max_rows > 0).then(|| self.max_rows.saturating_sub(held()))
    }

    /// Over what waits or runs.
    fn sum(&self, of: impl Fn(&Lease) -> u64) -> u64 {
        let held = self.held.values().filter(|held| !matches!(held.phase, Phase::Settling));
        held.fold(0, |sum, held| sum.saturating_add(of(&held.lease)))
    }

    /// Takes a lease of a claim; one that is held already is not new.
    pub(crate) fn claimed(&mut self, lease: Lease, valid_until: Duration) {
        let reference = reference(&lease);
        if let Some(held) = self.held.get(&reference.id) {
            if held.lease.fence >= lease.fence {
                return;
            }
            // The old lease was lost unnoticed; its job, if any, is fenced
            // off by `finished`, which compares tokens.
            self.forget(&reference.id);
        }
        self.ready.push_back(reference.clone());
        self.held.insert(reference.id, Held { lease, phase: Phase::Ready, valid_until });
    }

    /// The next batch to start on, while a slot is free.
    pub(crate) fn start_next(&mut self, now: Duration) -> Option<Lease> {
        while self.running < self.slots {
            let reference = self.ready.pop_front()?;
            let Some(held) = self.held.get_mut(&reference.id) else { continue };
            if held.lease.fence != reference.fence || !matches!(held.phase, Phase::Ready) {
                continue;
            }
            if held.valid_until <= now {
                // It ran out while it waited here; the coordinator has it back.
                self.held.remove(&reference.id);
                continue;
            }
            held.phase = Phase::Running;
            self.running += 1;
            self.report.started.push(reference);
            return Some(held.lease.clone());
        }
        None
    }

    /// An attempt ended. An attempt whose lease is not held any more is not reported.
    pub(crate) fn finished(&mut self, outcome: Outcome) {
        self.running = self.running.saturating_sub(1);
        match self.held.get_mut(&outcome.lease.id) {
            Some(held) if held.lease.fence == outcome.lease.fence => {
                held.phase = Phase::Settling;
                self.report.outcomes.push(outcome);
            }
            _ => {}
        }
    }

    /// What to tell the coordinator now; empties the list.
    pub(crate) fn take_report(&mut self) -> Report {
        if self.isolating {
            let with_outputs = |outcome: &Outcome| !outcome.outputs.is_empty();
            if let Some(at) = self.report.outcomes.iter().position(with_outputs) {
                let outcomes = vec![self.report.outcomes.swap_remove(at)];
                return Report { outcomes, started: Vec::new() };
            }
            self.isolating = false;
        }
        if self.report.outcomes.len() <= MAX_OUTCOMES {
            return std::mem::take(&mut self.report);
        }
        let rest = self.report.outcomes.split_off(MAX_OUTCOMES);
        let outcomes = std::mem::replace(&mut self.report.outcomes, rest);
        Report { outcomes, started: std::mem::take(&mut self.report.started) }
    }

    /// Whether there is something to tell.
    pub(crate) fn has_report(&self) -> bool {
        !self.report.is_empty()
    }

    /// From now on outcomes with outputs are reported alone, until there are none.
    pub(crate) fn isolate(&mut self) {
        self.isolating = true;
    }

    /// Whether the last report taken was one of those.
    pub(crate) fn is_isolating(&self) -> bool {
        self.isolating
    }

    /// The coordinator did not take a report: it goes out again.
    pub(crate) fn report_failed(&mut self, mut report: Report) {
        report.outcomes.append(&mut self.report.outcomes);
        report.started.append(&mut self.report.started);
        report.outcomes.retain(|outcome| holds(&self.held, &outcome.lease));
        report.started.retain(|lease| holds(&self.held, lease));
        self.report = report;
    }

    /// The coordinator answered a report: every outcome of it is done with,
    /// whatever the verdict. Returns leases to cancel, because their start
    /// came too late.
    pub(crate) fn reported(&mut self, report: &Report, started: &[Settled]) -> Vec<LeaseRef> {
        for outcome in &report.outcomes {
            self.release(&outcome.lease);
        }
        let mut lost = Vec::new();
        for (lease, answer) in report.started.iter().zip(started) {
            if matches!(answer.verdict, Verdict::Stale | Verdict::NotFound)
                && holds(&self.held, lease)
            {
                self.release(lease);
                lost.push(lease.clone());
            }
        }
        lost
    }

    /// Extensions for every lease that is held.
    pub(crate) fn extensions(&self, progress: impl Fn(&LeaseRef) -> Option<u64>) -> Vec<Extension> {
        self.held
            .values()
            .map(|held| {
                let lease = reference(&held.lease);
                let progress = progress(&lease).map(|rows_done| Progress {
                    rows_done,
                    rows_total: held.lease.spec.rows,
                    note: String::new(),
                });
                let started = !matches!(held.phase, Phase::Ready);
                Extension { lease, started, progress, duration: None }
            })
            .collect()
    }

    /// The coordinator answered extensions. Returns the leases whose work must stop.
    pub(crate) fn extended(
        &mut self,
        sent: &[Extension],
        answers: &[Extended],
        valid_until: Duration,
    ) -> Vec<LeaseRef> {
        let mut lost = Vec::new();
        for (extension, answer) in sent.iter().zip(answers) {
            let lease = &extension.lease;
            if !holds(&self.held, lease) {
                continue;
            }
            let stale = matches!(answer.verdict, Verdict::Stale | Verdict::NotFound);
            if stale || answer.cancelled {
                self.release(lease);
                lost.push(lease.clone());
            } else if let Some(held) = self.held.get_mut(&lease.id) {
                held.valid_until = held.valid_until.max(valid_until);
            }
        }
        lost
    }

    /// Leases that ran out by this clock, heard of or not: their work must stop.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<LeaseRef> {
        let lost: Vec<LeaseRef> = self
            .held
            .values()
            .filter(|held| held.valid_until <= now && !matches!(held.phase, Phase::Settling))
            .map(|held| reference(&held.lease))
            .collect();
        for lease in &lost {
            self.release(lease);
        }
        lost
    }

    /// Gives back what has not begun: outcomes for a shutdown.
    pub(crate) fn drain_ready(&mut self) -> Vec<LeaseRef> {
        let mut released = Vec::new();
        while let Some(lease) = self.ready.pop_front() {
            if let Some(held) = self.held.get_mut(&lease.id)
                && held.lease.fence == lease.fence
                && matches!(held.phase, Phase::Ready)
            {
                held.phase = Phase::Settling;
                released.push(lease);
            }
        }
        released
    }

    /// Adds an outcome of a lease that no slot works on.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(held) = self.held.get_mut(&outcome.lease.id)
            && held.lease.fence == outcome.lease.fence
        {
            held.phase = Phase::Settling;
            self.report.outcomes.push(outcome);
        }
    }

    /// Batches that slots work on.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Batches that wait for a slot.
    pub(crate) fn prefetched(&self) -> usize {
        self.ready.len()
    }

    /// Batches held in any phase.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    fn release(&mut self, lease: &LeaseRef) {
        if holds(&self.held, lease) {
            self.forget(&lease.id);
        }
    }

    fn forget(&mut self, id: &BatchId) {
        // A running one stays counted until its slot is really free.
        self.held.remove(id);
        self.ready.retain(|lease| lease.id != *id);
        self.report.started.retain(|lease| lease.id != *id);
        self.report.outcomes.retain(|outcome| outcome.lease.id != *id);
    }
}

/// Names the lease.
pub(crate) fn reference(lease: &Lease) -> LeaseRef {
    LeaseRef { id: lease.spec.id.clone(), fence: lease.fence }
}

fn holds(held: &HashMap<BatchId, Held>, lease: &LeaseRef) -> bool {
    held.get(&lease.id).is_some_and(|held| held.lease.fence == lease.fence)
}

/// The claim for so much room.
pub(crate) fn claim_request(
    config: &Config,
    request_id: String,
    (max, max_bytes): (u32, u64),
    max_rows: Option<u64>,
    wait: Duration,
) -> ClaimRequest {
    ClaimRequest {
        worker: config.name.clone(),
        request_id,
        queues: config.queues.clone(),
        max,
        max_bytes,
        // 0 would be no bound; the first batch is given whatever its size.
        max_rows: max_rows.map_or(0, |rows| rows.max(1)),
        lease: config.lease,
        wait,
        locations: config.locations.clone(),
        ids: Vec::new(),
        start: false,
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
