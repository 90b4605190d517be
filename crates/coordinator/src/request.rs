//! What is asked of a coordinator, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use crate::model::{Batch, BatchSpec, Failure, Fence, Progress, Resolution, State};
use crate::policy::QueuePolicy;

/// The answer to one registration.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// The batch; another than asked for where a dedup key matched.
    pub id: BatchId,
    /// Its state now.
    pub state: State,
    /// Whether this call made it.
    pub created: bool,
    /// Where it stands in the history of the coordinator.
    pub position: Position,
}

/// Asks for work.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRequest {
    /// Who asks: unique per process start.
    pub worker: String,
    /// Unique per claim: sent again, it is answered with the same leases.
    pub request_id: String,
    /// Queues to take from, in no order; empty means the default queue.
    pub queues: Vec<String>,
    /// Most batches, 1 to 1,024.
    pub max: u32,
    /// Most payload bytes in all; 0 is no bound. One batch is given even if it is larger.
    pub max_bytes: u64,
    /// Most rows in all; 0 is no bound. One batch is given even if it has more.
    pub max_rows: u64,
    /// How long the leases last: 100 ms to 24 h.
    pub lease: Duration,
    /// How long to wait when there is nothing, at most 60 s.
    pub wait: Duration,
    /// Addresses on which the caller has payloads at hand.
    pub locations: Vec<String>,
    /// Exactly these, where they are pending; empty takes by priority and age.
    pub ids: Vec<BatchId>,
    /// Charge the attempts at once, for callers that do not prefetch.
    pub start: bool,
}

impl ClaimRequest {
    /// Up to `max` batches of the default queue, without other bounds, without waiting.
    pub fn new(
        worker: impl Into<String>,
        request_id: impl Into<String>,
        max: u32,
        lease: Duration,
    ) -> Self {
        ClaimRequest {
            worker: worker.into(),
            request_id: request_id.into(),
            queues: Vec::new(),
            max,
            max_bytes: 0,
            max_rows: 0,
            lease,
            wait: Duration::ZERO,
            locations: Vec::new(),
            ids: Vec::new(),
            start: false,
        }
    }
}

/// A batch given to a worker for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The batch as registered.
    pub spec: BatchSpec,
    /// Proves who holds it.
    pub fence: Fence,
    /// When it ends, by the coordinator's clock.
    pub deadline: Timestamp,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// The answer to a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// By priority, then age.
    pub leases: Vec<Lease>,
    /// The coordinator's time.
    pub now: Timestamp,
    /// When the next scheduled batch of the queues falls due.
    pub next_due: Option<Timestamp>,
}

/// Names a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// The batch.
    pub id: BatchId,
    /// The token of the lease.
    pub fence: Fence,
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Which lease.
    pub lease: LeaseRef,
    /// How.
    pub resolution: Resolution,
    /// Why, where it failed or is given back.
    pub error: Option<Failure>,
    /// Batches made from it, registered in the same step.
    pub outputs: Vec<BatchSpec>,
    /// How long a released batch rests before it is pending again, at most 24 h:
    /// for work that cannot be done right now, of which nothing is charged.
    pub delay: Duration,
}

impl Outcome {
    /// Given back: nothing is charged, and the batch is pending again at once.
    pub fn released(lease: LeaseRef) -> Self {
        Outcome {
            lease,
            resolution: Resolution::Released,
            error: None,
            outputs: Vec::new(),
            delay: Duration::ZERO,
        }
    }
}

/// Results, starts and the next claim in one atomic step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettleRequest {
    /// Ended attempts.
    pub outcomes: Vec<Outcome>,
    /// Prefetched leases whose processing begins now.
    pub started: Vec<LeaseRef>,
    /// What to claim next; its `wait` applies only to this part.
    pub claim: Option<ClaimRequest>,
}

/// What became of a call on a lease or batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done by this call.
    Applied,
    /// The same call did it before; nothing changed.
    AlreadyDone,
    /// The token is old, or the state does not allow it; nothing changed.
    Stale,
    /// No such batch; nothing changed.
    NotFound,
}

/// The answer for one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Which.
    pub id: BatchId,
    /// What the call did.
    pub verdict: Verdict,
    /// Its state after the call; `None` where there is no such batch.
    pub state: Option<State>,
}

/// The answer to a settle: in the order of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettleReply {
    /// One per outcome.
    pub outcomes: Vec<Settled>,
    /// One per started lease.
    pub started: Vec<Settled>,
    /// The claim, where one was asked for.
    pub claim: Option<Claim>,
}

/// Prolongs one lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Extension {
    /// Which.
    pub lease: LeaseRef,
    /// Processing has begun: charge the attempt if it is not yet charged.
    pub started: bool,
    /// How far it is.
    pub progress: Option<Progress>,
    /// A new duration; `None` keeps that of the claim.
    pub duration: Option<Duration>,
}

/// The answer to one extension.
#[derive(Clone, Debug, PartialEq)]
pub struct Extended {
    /// Which.
    pub id: BatchId,
    /// `Applied`, `Stale` or `NotFound`.
    pub verdict: Verdict,
    /// The new end of the lease, where it stands.
    pub deadline: Option<Timestamp>,
    /// The batch was cancelled: stop the work.
    pub cancelled: bool,
}

/// Which batches to list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListFilter {
    /// Any of these; empty is all.
    pub states: Vec<State>,
    /// Of this queue; `None` is all.
    pub queue: Option<String>,
    /// Identifiers that begin so; empty is all.
    pub prefix: String,
    /// Made from this batch.
    pub parent: Option<BatchId>,
    /// Most to return, 1 to 10,000; 0 means 100.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: String,
}

/// A reading question; answers never hold up work.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// These batches; unknown ones are left out.
    Get(Vec<BatchId>),
    /// In order of registration.
    List(ListFilter),
    /// Counts of one queue or of all.
    Stats(Option<String>),
    /// What a batch was made from, or what was made from it.
    Lineage(LineageQuery),
    /// What became of leases, for a worker that died between a sink's commit and its settle.
    Recovery(Vec<LeaseRef>),
    /// Whether the coordinator still knows all that it ever acknowledged.
    History,
}

/// A run of a coordinator: from one opening of its state to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Names it; no two have the same.
    pub id: u64,
    /// Registrations of it that stand before this one are known.
    pub end: u64,
}

/// Where a registration stands in the history of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// A run in which the batch was known.
    pub run: u64,
    /// Its place in the order of registration.
    pub sequence: u64,
}

impl Position {
    /// That of a registration of which nothing is known: no history has it.
    pub const UNKNOWN: Position = Position { run: 0, sequence: u64::MAX };
}

/// Which registrations a coordinator has seen: every one that its state has
/// followed on, but for terminal batches that were purged. A state that was lost
/// or put back to an earlier one does not have what came after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The newest 64, the present one last, with the end that it has so far.
    pub runs: Vec<Run>,
}

impl History {
    /// Whether the registration was seen: a batch that stands there and is not
    /// known was purged.
    pub fn has(&self, position: Position) -> bool {
        self.runs.iter().any(|run| run.id == position.run && position.sequence < run.end)
    }

    /// Names the present run; 0 where there is none.
    pub fn run(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.id)
    }
}

/// A page of batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In order of registration.
    pub batches: Vec<Batch>,
    /// To go on with; empty at the end.
    pub next_cursor: String,
}

/// Counts of one queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueStats {
    /// Which.
    pub queue: String,
    /// No claims are answered.
    pub paused: bool,
    /// No registrations are taken.
    pub draining: bool,
    /// Its limits.
    pub policy: QueuePolicy,
    /// Batches by state: every state is there, zeros too.
    pub counts: BTreeMap<State, u64>,
    /// Terminal batches that were removed.
    pub purged: u64,
    /// Rows of batches that are not terminal.
    pub live_rows: u64,
    /// Payload bytes of batches that are not terminal.
    pub live_bytes: u64,
    /// When the oldest pending batch was registered.
    pub oldest_pending_at: Option<Timestamp>,
}

/// What a lease is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It still stands: go on.
    Current,
    /// Its settle was accepted.
    Settled,
    /// It ran out or was overtaken.
    Stale,
    /// No such batch.
    NotFound,
}

/// The answer for one lease of [`Query::Recovery`].
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// Which.
    pub id: BatchId,
    /// What the lease is worth.
    pub standing: Standing,
    /// The batch's state; `None` where there is no such batch.
    pub state: Option<State>,
}

/// The answer to a [`Query`], of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `Get` and `List`.
    Batches(Page),
    /// To `Stats`, by name of queue; the default queue is always there.
    Stats(Vec<QueueStats>),
    /// To `Lineage`.
    Lineage(Lineage),
    /// To `Recovery`, in the order asked.
    Recovery(Vec<Recovered>),
    /// To `History`.
    History(History),
}

/// Which way to go from a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To what it was made from.
    #[default]
    Ancestors,
    /// To what was made from it.
    Descendants,
}

/// Asks what a batch was made from, or what was made from it: over the
/// `parents` of specifications and the `outputs` of completed batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LineageQuery {
    /// Where to begin; it need not be registered.
    pub id: BatchId,
    /// Which way.
    pub direction: Direction,
    /// Most steps from it; 0 is any number.
    pub depth: u32,
    /// Most batches, 1 to 1,000; 0 means 100.
    pub limit: u32,
}

/// The answer to a [`LineageQuery`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lineage {
    /// Each once, nearest first, without the one that was asked for.
    pub nodes: Vec<LineageNode>,
    /// What was made from what among them and the one that was asked for.
    pub links: Vec<LineageLink>,
    /// There is more, beyond the depth or the limits.
    pub truncated: bool,
}

/// A batch of a [`Lineage`].
#[derive(Clone, Debug, PartialEq)]
pub struct LineageNode {
    /// Which.
    pub id: BatchId,
    /// Steps from the batch that was asked for.
    pub depth: u32,
    /// `None` where it is only named by others: never registered, or purged.
    pub state: Option<State>,
    /// Its queue, where it is registered.
    pub queue: Option<String>,
}

/// That a batch was made from another.
#[derive(Clone, Debug, PartialEq)]
pub struct LineageLink {
    /// The other.
    pub parent: BatchId,
    /// The one that was made from it.
    pub child: BatchId,
}

/// Which terminal batches to forget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PurgeFilter {
    /// Of this queue; `None` is all.
    pub queue: Option<String>,
    /// Of these terminal states; empty is all of them.
    pub states: Vec<State>,
    /// Finished at least this long ago.
    pub finished_before: Duration,
}

/// Changes by hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// Answer no claims of this queue; running work goes on.
    Pause(String),
    /// Undo pause and drain.
    Resume(String),
    /// Take no new registrations in this queue; what is there is worked off.
    Drain(String),
    /// Set all limits of this queue, in place of those that it has.
    Configure(String, QueuePolicy),
    /// Take these out; a worker that holds one is told at its next extension.
    Cancel(Vec<BatchId>),
    /// Terminal batches start anew with all their retries.
    Requeue(Vec<BatchId>),
    /// Every failed batch of this queue starts anew.
    RequeueFailed(String),
    /// Forget terminal batches.
    Purge(PurgeFilter),
    /// Expire batches that are not yet claimed and were registered this long ago.
    Expire(Duration),
}

/// The answer to a [`Control`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlReply {
    /// One per identifier named in the request.
    pub batches: Vec<Settled>,
    /// How many batches changed.
    pub count: u64,
}

/// Which events to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchFilter {
    /// Of this queue; `None` is all.
    pub queue: Option<String>,
    /// Of these batches; empty is all.
    pub ids: Vec<BatchId>,
    /// Into any of these states; empty is all, purges included.
    pub states: Vec<State>,
}

impl WatchFilter {
    /// Whether a change is one to see.
    pub fn selects(&self, change: &Change) -> bool {
        self.queue.as_deref().is_none_or(|queue| queue == change.queue)
            && (self.ids.is_empty() || self.ids.contains(&change.id))
            && (self.states.is_empty() || change.to.is_some_and(|to| self.states.contains(&to)))
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A batch went from one state to another.
    Changed(Change),
    /// The reader was too slow for this many events.
    Missed(u64),
}

/// A change of state.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which batch.
    pub id: BatchId,
    /// Its queue.
    pub queue: String,
    /// The state before; `None` for a registration.
    pub from: Option<State>,
    /// The state now; `None` when the batch was purged.
    pub to: Option<State>,
    /// When.
    pub at: Timestamp,
    /// Who held it.
    pub worker: Option<String>,
    /// Why, where it failed.
    pub error: Option<Failure>,
    /// Attempts charged so far.
    pub attempts: u32,
}
