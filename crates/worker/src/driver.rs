//! Carries out what the board decides: calls, jobs, heartbeats, shutdown.
//!
//! One task drives a pool. At most three calls are under way: a claim that
//! waits for work, a settle that carries every result so far (and, when no
//! claim waits, the next claim with it), and a round of heartbeats.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use sheaf_coordinator::{
    Claim, ClaimRequest, Error, Extended, Extension, Lease, LeaseRef, Outcome, Resolution,
    SettleReply, SettleRequest,
};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Report, claim_request, reference};
use crate::config::Config;
use crate::error::ProcessError;
use crate::job::{Ended, Tools, failed, patience, run};
use crate::metrics::{Ending, Metrics};
use crate::processor::ProgressHandle;
use crate::worker::Summary;

/// After the grace period, cancelled work gets this long to stop.
const STOP_TIME: Duration = Duration::from_secs(1);
/// And the last results this long to be taken.
const SETTLE_TIME: Duration = Duration::from_secs(5);

struct Running {
    lease: Lease,
    cancel: CancellationToken,
    progress: ProgressHandle,
    since: Duration,
}

enum Done {
    Claim(Result<Claim, Error>),
    Settle(Report, bool, Box<Result<SettleReply, Error>>),
    Extend(Vec<Extension>, Duration, Result<Vec<Extended>, Error>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    /// No new work; what runs may finish until then.
    Draining(Duration),
    /// What runs was cancelled; it has until then to stop.
    Stopping(Duration),
    /// Only results are sent any more, until then.
    Settling(Duration),
}

pub(crate) struct Driver {
    config: Config,
    tools: Arc<Tools>,
    clock: SharedClock,
    metrics: Metrics,
    stop: CancellationToken,
    board: Board,
    jobs: JoinSet<Ended>,
    running: HashMap<Id, Running>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    claiming: bool,
    settling: bool,
    extending: bool,
    failures: u32,
    /// No call before this time: the coordinator failed to answer the last.
    not_before: Duration,
    phase: Phase,
    summary: Summary,
    claims: u64,
    /// The claim whose answer is not known. Sent again under its name, it
    /// gives the leases that a lost answer held; under another, they would
    /// have to run out first.
    unanswered: Option<String>,
}

impl Driver {
    pub(crate) fn new(
        config: Config,
        tools: Tools,
        clock: SharedClock,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Driver {
            board: Board::new(&config),
            config,
            tools: Arc::new(tools),
            clock,
            metrics,
            stop,
            jobs: JoinSet::new(),
            running: HashMap::new(),
            calls: FuturesUnordered::new(),
            claiming: false,
            settling: false,
            extending: false,
            failures: 0,
            not_before: Duration::ZERO,
            phase: Phase::Working,
            summary: Summary::default(),
            claims: 0,
            unanswered: None,
        }
    }

    /// Runs until the stop token is cancelled and everything is settled.
    pub(crate) async fn run(mut self: Box<Self>) -> Summary {
        let mut heartbeat = tokio::time::interval(self.config.heartbeat());
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        while !self.is_over() {
            self.start_jobs();
            self.send_calls();
            self.gauges();
            let timer = self.next_timer();
            tokio::select! {
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.answered(done),
                Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => {
                    self.job_ended(ended);
                }
                _ = heartbeat.tick() => self.heartbeat(),
                () = stop.cancelled(), if self.phase == Phase::Working => self.begin_drain(),
                () = tokio::time::sleep(timer), if !timer.is_zero() => self.timer(),
            }
        }
        self.summary.unsettled = self.board.held() as u64;
        self.jobs.abort_all();
        self.jobs.detach_all();
        self.metrics.running.set(0);
        self.metrics.prefetched.set(0);
        self.summary
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Working => false,
            Phase::Draining(_) | Phase::Stopping(_) => {
                self.running.is_empty() && self.board.held() == 0 && !self.claiming
            }
            Phase::Settling(until) => {
                (self.board.held() == 0 && !self.claiming) || self.clock.elapsed() >= until
            }
        }
    }

    fn start_jobs(&mut self) {
        if self.phase != Phase::Working {
            return;
        }
        let now = self.clock.elapsed();
        while let Some(lease) = self.board.start_next(now) {
            let cancel = CancellationToken::new();
            let progress = ProgressHandle::default();
            let job = Running {
                lease: lease.clone(),
                cancel: cancel.clone(),
                progress: progress.clone(),
                since: now,
            };
            let tools = Arc::clone(&self.tools);
            let runtime = tokio::runtime::Handle::current();
            // A thread of its own: decoding and compressing must not hold up heartbeats.
            let handle = self
                .jobs
                .spawn_blocking(move || runtime.block_on(run(&tools, lease, cancel, progress)));
            self.running.insert(handle.id(), job);
        }
    }

    fn send_calls(&mut self) {
        if self.clock.elapsed() < self.not_before {
            return;
        }
        let wanted =
            if self.phase == Phase::Working && !self.claiming { self.board.wanted() } else { None };
        if self.board.has_report() && !self.settling {
            let report = self.board.take_report();
            // What was refused may have been the claim: it does not ride along twice.
            let wanted = wanted.filter(|_| !self.board.is_isolating());
            let claim = wanted.map(|room| self.request(room, Duration::ZERO));
            self.settling = true;
            self.claiming |= claim.is_some();
            let fused = claim.is_some();
            let request = SettleRequest {
                outcomes: report.outcomes.clone(),
                started: report.started.clone(),
                claim,
            };
            let tools = Arc::clone(&self.tools);
            self.calls.push(Box::pin(async move {
                let answer = tools.coordinator.settle(request).await;
                Done::Settle(report, fused, Box::new(answer))
            }));
        } else if let Some(room) = wanted {
            self.claiming = true;
            let request = self.request(room, self.config.poll_interval);
            self.calls.push(claim(Arc::clone(&self.tools), request, self.stop.clone()));
        }
    }

    fn request(&mut self, room: (u32, u64), wait: Duration) -> ClaimRequest {
        let request_id = self.unanswered.take().unwrap_or_else(|| {
            self.claims += 1;
            format!("{}.{}", self.config.name, self.claims)
        });
        self.unanswered = Some(request_id.clone());
        claim_request(&self.config, request_id, room, self.board.rows_left(), wait)
    }

    fn heartbeat(&mut self) {
        self.stop_lost(None);
        if self.extending || self.board.held() == 0 {
            return;
        }
        let rows: HashMap<&sheaf_proto::BatchId, u64> =
            self.running.values().map(|job| (&job.lease.spec.id, job.progress.rows())).collect();
        let extensions = self.board.extensions(|lease| rows.get(&lease.id).copied());
        self.extending = true;
        let tools = Arc::clone(&self.tools);
        let sent = self.clock.elapsed();
        self.calls.push(Box::pin(async move {
            let answer = tools.coordinator.extend(extensions.clone()).await;
            Done::Extend(extensions, sent, answer)
        }));
    }

    fn answered(&mut self, done: Done) {
        match done {
            Done::Claim(answer) => {
                self.claiming = false;
                match answer {
                    Ok(claim) => {
                        self.call_succeeded();
                        self.take_leases(claim);
                    }
                    Err(error) => self.call_failed("claim", &error),
                }
            }
            Done::Settle(report, fused, answer) => {
                self.settling = false;
                self.claiming &= !fused;
                match *answer {
                    Ok(reply) => self.settled(&report, reply),
                    Err(error) => self.not_settled(report, &error),
                }
            }
            Done::Extend(sent, at, answer) => {
                self.extending = false;
                match answer {
                    Ok(answers) => {
                        let until = at + self.config.lease;
                        let lost = self.board.extended(&sent, &answers, until);
                        self.stop_lost(Some(lost));
                    }
                    Err(error) => self.call_failed("extend", &error),
                }
            }
        }
    }

    fn settled(&mut self, report: &Report, reply: SettleReply) {
        self.call_succeeded();
        for (outcome, answer) in report.outcomes.iter().zip(&reply.outcomes) {
            tracing::debug!(
                id = %outcome.lease.id, resolution = ?outcome.resolution,
                verdict = ?answer.verdict, "settled"
            );
        }
        let lost = self.board.reported(report, &reply.started);
        self.stop_lost(Some(lost));
        if let Some(claim) = reply.claim {
            self.take_leases(claim);
        }
    }

    /// A report is taken whole or not at all. One that is refused for its
    /// content would be refused for ever: what may be the reason, the batches
    /// made from others, is then sent one outcome at a time, and an outcome
    /// that is refused by itself becomes a failure that says why.
    fn not_settled(&mut self, mut report: Report, error: &Error) {
        let content = matches!(
            error.code(),
            Code::InvalidArgument
                | Code::LimitExceeded
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Unimplemented
        );
        let with_outputs = report.outcomes.iter().any(|outcome| !outcome.outputs.is_empty());
        if !content || !with_outputs {
            self.call_failed("settle", error);
        } else if report.started.is_empty()
            && let [outcome] = report.outcomes.as_mut_slice()
        {
            tracing::warn!(id = %outcome.lease.id, %error, "batches made by it are refused");
            let mut failure = ProcessError::from_error(error);
            failure.permanent = true;
            failure.message = format!("the batches made from it are refused: {}", failure.message);
            *outcome = failed(&outcome.lease, failure);
        } else {
            tracing::debug!(%error, "a report is refused, its parts are sent alone");
            self.board.isolate();
        }
        self.board.report_failed(report);
    }

    fn take_leases(&mut self, claim: Claim) {
        self.unanswered = None;
        let received = self.clock.elapsed();
        for lease in claim.leases {
            // Of a claim that was asked again the leases may be half over.
            let left = lease.deadline.since(claim.now).min(self.config.lease);
            self.board.claimed(lease, received + left);
        }
        if self.phase != Phase::Working {
            self.release_ready();
        }
    }

    fn call_succeeded(&mut self) {
        self.failures = 0;
        self.not_before = Duration::ZERO;
    }

    fn call_failed(&mut self, call: &'static str, error: &Error) {
        self.metrics.call_failures.inc();
        tracing::warn!(call, %error, failures = self.failures, "the coordinator did not answer");
        let delay = patience().delay(self.failures, 0.5).unwrap_or(STOP_TIME);
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.clock.elapsed() + delay;
    }

    fn job_ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(job) = self.running.remove(&id) else { return };
        self.metrics.seconds.observe((self.clock.elapsed() - job.since).as_secs_f64());
        let abandoned = matches!(self.phase, Phase::Stopping(_) | Phase::Settling(_));
        match ended {
            Ok((_, Ended::Settle(outcome, rows))) => {
                match outcome.resolution {
                    Resolution::Completed => {
                        self.summary.completed += 1;
                        self.metrics.ended(Ending::Completed);
                        self.metrics.rows.inc_by(rows);
                        self.metrics.bytes.inc_by(job.lease.spec.bytes);
                    }
                    Resolution::Failed => {
                        self.summary.failed += 1;
                        self.metrics.ended(Ending::Failed);
                    }
                    Resolution::Released => {
                        self.summary.released += 1;
                        self.metrics.ended(Ending::Released);
                    }
                }
                self.board.finished(outcome);
            }
            Ok((_, Ended::Lost)) if abandoned => {
                self.summary.released += 1;
                self.metrics.ended(Ending::Released);
                self.board.finished(Outcome::released(reference(&job.lease)));
            }
            Ok((_, Ended::Lost)) => {
                self.summary.lost += 1;
                self.metrics.ended(Ending::Lost);
                // Given back, where it is not lost but only could not be proven.
                self.board.finished(Outcome::released(reference(&job.lease)));
            }
            Err(error) => {
                self.metrics.panics.inc();
                self.metrics.ended(Ending::Failed);
                self.summary.failed += 1;
                let failure = ProcessError::transient(panic_text(error));
                self.board.finished(failed(&reference(&job.lease), failure));
            }
        }
    }

    /// Cancels the work of leases that are lost.
    fn stop_lost(&mut self, lost: Option<Vec<LeaseRef>>) {
        let lost = lost.unwrap_or_else(|| self.board.expire(self.clock.elapsed()));
        for lease in lost {
            tracing::warn!(id = %lease.id, fence = %lease.fence, "the lease is lost, its work stops");
            for job in self.running.values() {
                if reference(&job.lease) == lease {
                    job.cancel.cancel();
                }
            }
        }
    }

    fn begin_drain(&mut self) {
        self.phase = Phase::Draining(self.clock.elapsed() + self.config.grace);
        self.release_ready();
    }

    fn release_ready(&mut self) {
        for lease in self.board.drain_ready() {
            self.summary.released += 1;
            self.metrics.ended(Ending::Released);
            self.board.settle(Outcome::released(lease));
        }
    }

    /// How long until something is due that no call or job will tell; zero is nothing.
    fn next_timer(&self) -> Duration {
        let now = self.clock.elapsed();
        let phase = match self.phase {
            Phase::Working => None,
            Phase::Draining(at) | Phase::Stopping(at) | Phase::Settling(at) => Some(at),
        };
        let backoff = (self.not_before > now).then_some(self.not_before);
        let next = [phase, backoff].into_iter().flatten().min();
        next.map_or(Duration::ZERO, |at| at.saturating_sub(now).max(Duration::from_millis(1)))
    }

    fn timer(&mut self) {
        let now = self.clock.elapsed();
        match self.phase {
            Phase::Draining(until) if now >= until => {
                for job in self.running.values() {
                    job.cancel.cancel();
                }
                self.phase = Phase::Stopping(now + STOP_TIME);
            }
            Phase::Stopping(until) if now >= until => {
                // What does not stop is given back all the same: its commit is fenced.
                for (_, job) in self.running.drain() {
                    self.summary.released += 1;
                    self.metrics.ended(Ending::Released);
                    self.board.finished(Outcome::released(reference(&job.lease)));
                }
                self.phase = Phase::Settling(now + SETTLE_TIME);
            }
            _ => {}
        }
    }

    fn gauges(&self) {
        self.metrics.running.set(i64::try_from(self.board.running()).unwrap_or(i64::MAX));
        self.metrics.prefetched.set(i64::try_from(self.board.prefetched()).unwrap_or(i64::MAX));
    }
}

/// A claim that waits. When the pool stops meanwhile, the same claim is asked
/// again without waiting: it gives the leases that may be on their way.
fn claim(
    tools: Arc<Tools>,
    request: ClaimRequest,
    stop: CancellationToken,
) -> BoxFuture<'static, Done> {
    Box::pin(async move {
        let last = ClaimRequest { wait: Duration::ZERO, ..request.clone() };
        let answer = tokio::select! {
            answer = tools.coordinator.claim(request) => answer,
            () = stop.cancelled() => tools.coordinator.claim(last).await,
        };
        Done::Claim(answer)
    })
}

fn panic_text(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "the attempt was aborted".to_owned();
    };
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("the processor panicked: {text}")
}
