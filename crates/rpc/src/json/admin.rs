//! Registration, reading and changes by hand, in JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{
    Change, ControlReply, DEFAULT_QUEUE, Event, ListFilter, Position, PurgeFilter, QueuePolicy,
    QueueStats, Recovered, Registered, Settled, Standing, State, WatchFilter,
};
use sheaf_proto::BatchId;

use super::queue::PositionRecord;
use super::record::{BatchRecord, FailureRecord};
use super::scalar::{Hex, OneOrMany, Rfc3339, millis};
use super::work::{LeaseInput, StandingWord, VerdictRecord};

/// What `RegisterBatch` answers for one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisteredRecord {
    /// The batch; another than asked for where a dedup key matched.
    pub batch_id: BatchId,
    /// Its state now.
    pub state: State,
    /// Whether this call made it.
    pub created: bool,
    /// Where it stands in the history of the coordinator: see `CoordinatorInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionRecord>,
}

impl From<Registered> for RegisteredRecord {
    fn from(registered: Registered) -> Self {
        let Registered { id, state, created, position } = registered;
        let position = (position != Position::UNKNOWN).then_some(position);
        let position =
            position.map(|Position { run, sequence }| PositionRecord { run: Hex(run), sequence });
        RegisteredRecord { batch_id: id, state, created, position }
    }
}

impl From<RegisteredRecord> for Registered {
    fn from(record: RegisteredRecord) -> Self {
        let position = record.position.map_or(Position::UNKNOWN, |position| Position {
            run: position.run.0,
            sequence: position.sequence,
        });
        let RegisteredRecord { batch_id: id, state, created, .. } = record;
        Registered { id, state, created, position }
    }
}

/// What `ListBatches` takes; every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListInput {
    /// A state, or several; absent is all.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub state: OneOrMany<State>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Identifiers that begin so.
    pub prefix: String,
    /// Made from this batch.
    pub parent: Option<BatchId>,
    /// Most to return, 1 to 10,000; 0 means 100.
    pub limit: u32,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<ListInput> for ListFilter {
    fn from(input: ListInput) -> Self {
        ListFilter {
            states: input.state.0,
            queue: input.queue,
            prefix: input.prefix,
            parent: input.parent,
            limit: input.limit,
            cursor: input.cursor.unwrap_or_default(),
        }
    }
}

impl From<ListFilter> for ListInput {
    fn from(filter: ListFilter) -> Self {
        ListInput {
            state: OneOrMany(filter.states),
            queue: filter.queue,
            prefix: filter.prefix,
            parent: filter.parent,
            limit: filter.limit,
            cursor: (!filter.cursor.is_empty()).then_some(filter.cursor),
        }
    }
}

/// What `ListBatches`, and `GetBatch` with a list, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageOutput {
    /// In order of registration.
    pub batches: Vec<BatchRecord>,
    /// To go on with; `null` at the end.
    pub next_cursor: Option<String>,
}

/// What `Stats` takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatsInput {
    /// Of this queue; absent is all.
    pub queue: Option<String>,
}

/// Counts of one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRecord {
    /// Which.
    pub queue: String,
    /// No claims are answered.
    pub paused: bool,
    /// No registrations are taken.
    pub draining: bool,
    /// Its limits, as `ConfigureQueue` takes them; `null` is none.
    #[serde(default)]
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
    pub oldest_pending_at: Option<Rfc3339>,
}

/// What `Stats` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsOutput {
    /// Sums over `queues`: every state is there, zeros too.
    pub counts: BTreeMap<State, u64>,
    /// Terminal batches that were removed from them.
    pub purged: u64,
    /// By name.
    pub queues: Vec<QueueRecord>,
}

impl From<Vec<QueueStats>> for StatsOutput {
    fn from(queues: Vec<QueueStats>) -> Self {
        let mut counts: BTreeMap<State, u64> = State::ALL.map(|state| (state, 0)).into();
        let mut purged = 0_u64;
        for queue in &queues {
            purged = purged.saturating_add(queue.purged);
            for (state, count) in &queue.counts {
                let sum = counts.entry(*state).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        let record = |stats: QueueStats| {
            let mut all: BTreeMap<State, u64> = State::ALL.map(|state| (state, 0)).into();
            all.extend(stats.counts);
            QueueRecord {
                queue: stats.queue,
                paused: stats.paused,
                draining: stats.draining,
                policy: stats.policy,
                counts: all,
                purged: stats.purged,
                live_rows: stats.live_rows,
                live_bytes: stats.live_bytes,
                oldest_pending_at: stats.oldest_pending_at.map(Rfc3339),
            }
        };
        StatsOutput { counts, purged, queues: queues.into_iter().map(record).collect() }
    }
}

impl From<StatsOutput> for Vec<QueueStats> {
    fn from(output: StatsOutput) -> Self {
        let stats = |record: QueueRecord| QueueStats {
            queue: record.queue,
            paused: record.paused,
            draining: record.draining,
            policy: record.policy,
            counts: record.counts,
            purged: record.purged,
            live_rows: record.live_rows,
            live_bytes: record.live_bytes,
            oldest_pending_at: record.oldest_pending_at.map(|time| time.0),
        };
        output.queues.into_iter().map(stats).collect()
    }
}

/// What `Recovery` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryInput {
    /// The leases to ask about.
    pub leases: Vec<LeaseInput>,
}

/// The answer for one lease of a `Recovery`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveredRecord {
    /// The batch.
    pub batch_id: BatchId,
    /// `current`, `settled`, `stale` or `not_found`.
    #[serde(with = "StandingWord")]
    pub standing: Standing,
    /// Its state; `null` where there is no such batch.
    pub state: Option<State>,
}

/// What `Recovery` answers, in the order asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryOutput {
    /// One per lease.
    pub leases: Vec<RecoveredRecord>,
}

impl From<Recovered> for RecoveredRecord {
    fn from(recovered: Recovered) -> Self {
        let Recovered { id, standing, state } = recovered;
        RecoveredRecord { batch_id: id, standing, state }
    }
}

impl From<RecoveredRecord> for Recovered {
    fn from(record: RecoveredRecord) -> Self {
        Recovered { id: record.batch_id, standing: record.standing, state: record.state }
    }
}

/// What `GetBatch`, `CancelBatch` and `RequeueBatch` take: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectInput {
    /// One batch; it must exist and be in a fitting state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// Several; each is answered for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_ids: Option<Vec<BatchId>>,
    /// Every failed batch of this queue (`RequeueBatch` only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// What `PauseQueue`, `ResumeQueue` and `DrainQueue` take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueInput {
    /// Which; default `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
}

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

/// What `PurgeBatches` takes: at least one of `queue`, `state` and
/// `finished_before_ms`, and only what fits all of them goes; or `all` alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeInput {
    /// Of this queue; absent is all.
    pub queue: Option<String>,
    /// A terminal state, or several; absent is all of them.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub state: OneOrMany<State>,
    /// Finished at least this many milliseconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before_ms: Option<u64>,
    /// Every terminal batch of every queue.
    pub all: bool,
}

impl From<PurgeInput> for PurgeFilter {
    fn from(input: PurgeInput) -> Self {
        PurgeFilter {
            queue: input.queue,
            states: input.state.0,
            finished_before: Duration::from_millis(input.finished_before_ms.unwrap_or(0)),
        }
    }
}

impl PurgeInput {
    /// Says which batches, or that all are meant, and not both.
    pub(crate) fn is_clear(&self) -> bool {
        let PurgeInput { queue, state, finished_before_ms, all } = self;
        let narrowed = queue.is_some() || !state.is_empty() || finished_before_ms.is_some();
        narrowed != *all
    }
}

impl From<PurgeFilter> for PurgeInput {
    fn from(filter: PurgeFilter) -> Self {
        let all = filter == PurgeFilter::default();
        let age = filter.finished_before;
        PurgeInput {
            queue: filter.queue,
            state: OneOrMany(filter.states),
            finished_before_ms: (!age.is_zero()).then(|| millis(age)),
            all,
        }
    }
}

/// What `ExpireBatches` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireInput {
    /// Batches that are not yet claimed and were registered this many milliseconds ago.
    pub older_than_ms: u64,
}

/// What every change by hand answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlOutput {
    /// One per identifier named in the request.
    pub batches: Vec<VerdictRecord>,
    /// How many batches changed.
    pub count: u64,
}

impl From<ControlReply> for ControlOutput {
    fn from(reply: ControlReply) -> Self {
        let batches = reply.batches.into_iter().map(VerdictRecord::from).collect();
        ControlOutput { batches, count: reply.count }
    }
}

impl From<ControlOutput> for ControlReply {
    fn from(output: ControlOutput) -> Self {
        let batches = output.batches.into_iter().map(Settled::from).collect();
        ControlReply { batches, count: output.count }
    }
}

/// What `WatchEvents` takes: first a filter, then the session it answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchInput {
    /// Goes on with a watch; absent begins one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `number` of the last reply that was received: with it, a reply that
    /// was lost on the way is given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Of this queue; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of these batches; absent is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batch_ids: Vec<BatchId>,
    /// Into this state, or one of several; absent is all, purges included.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub state: OneOrMany<State>,
    /// Most events to return, 1 to 10,000; 0 means 1,000.
    pub max: u32,
    /// How long to wait for the first one, at most 60,000.
    pub wait_ms: u64,
}

impl WatchInput {
    pub(crate) fn has_filter(&self) -> bool {
        self.queue.is_some() || !self.batch_ids.is_empty() || !self.state.is_empty()
    }

    pub(crate) fn filter(&self) -> WatchFilter {
        WatchFilter {
            queue: self.queue.clone(),
            ids: self.batch_ids.clone(),
            states: self.state.0.clone(),
        }
    }
}

/// What `WatchEvents` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchOutput {
    /// To go on with.
    pub session: String,
    /// Numbers the replies of a session, from 1.
    pub number: u64,
    /// In order.
    pub events: Vec<ChangeRecord>,
    /// Events that came while nobody asked, and were too many to keep; they
    /// would stand before the first of `events`.
    pub missed: u64,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// Which batch.
    pub batch_id: BatchId,
    /// Its queue.
    pub queue: String,
    /// The state before; `null` for a registration.
    pub from: Option<State>,
    /// The state now; `null` when the batch was purged.
    pub to: Option<State>,
    /// When.
    pub at: Rfc3339,
    /// Who held it.
    pub worker: Option<String>,
    /// Why, where it failed.
    pub error: Option<FailureRecord>,
    /// Attempts charged so far.
    pub attempts: u32,
}

impl From<Change> for ChangeRecord {
    fn from(change: Change) -> Self {
        ChangeRecord {
            batch_id: change.id,
            queue: change.queue,
            from: change.from,
            to: change.to,
            at: Rfc3339(change.at),
            worker: change.worker,
            error: change.error.map(FailureRecord::from),
            attempts: change.attempts,
        }
    }
}

impl From<ChangeRecord> for Event {
    fn from(record: ChangeRecord) -> Self {
        Event::Changed(Change {
            id: record.batch_id,
            queue: record.queue,
            from: record.from,
            to: record.to,
            at: record.at.0,
            worker: record.worker,
            error: record.error.map(Into::into),
            attempts: record.attempts,
        })
    }
}
