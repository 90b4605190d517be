//! All that is known of a batch, in JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{Batch, BatchSpec, Failure, Fence, Holder, Progress, Resolution, State};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use super::scalar::{FenceText, Rfc3339, millis};
use super::spec::SpecRecord;

/// What `GetBatch` answers: every field is always there, `null` where there is nothing.
///
/// ```
/// use sheaf_coordinator::{Batch, BatchSpec, State};
/// use sheaf_rpc::json::BatchRecord;
/// # let batch = Batch {
/// #     spec: BatchSpec::new("orders:1".parse()?), state: State::Pending, attempts: 0,
/// #     lost_leases: 0, lease: None, progress: None, error: None,
/// #     registered_at: sheaf_retry::Timestamp::from_millis(1_795_231_146_000),
/// #     updated_at: sheaf_retry::Timestamp::from_millis(1_795_231_146_000), due_at: None,
/// #     first_attempt_at: None, finished_at: None, last_fence: Default::default(),
/// #     settled: None, outputs: vec![],
/// # };
/// let json = serde_json::to_value(BatchRecord::from(batch))?;
/// assert_eq!(json["batch_id"], "orders:1");
/// assert_eq!(json["registered_at"], "2026-11-21T03:19:06.000000Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// As registered.
    #[serde(flatten)]
    pub spec: SpecRecord,
    /// Where it is.
    pub state: State,
    /// Attempts charged.
    pub attempts: u32,
    /// Leases that ran out since it last was requeued.
    pub lost_leases: u32,
    /// Who holds it, while `processing`.
    pub lease: Option<HolderRecord>,
    /// How far the current attempt is.
    pub progress: Option<Progress>,
    /// The last failure.
    pub error: Option<FailureRecord>,
    /// When it was registered.
    pub registered_at: Rfc3339,
    /// When it last changed.
    pub updated_at: Rfc3339,
    /// When it becomes pending, while `scheduled`.
    pub due_at: Option<Rfc3339>,
    /// When its first attempt began.
    pub first_attempt_at: Option<Rfc3339>,
    /// When it reached its terminal state.
    pub finished_at: Option<Rfc3339>,
    /// The last token handed out for it.
    pub last_fence: FenceText,
    /// The settle that was accepted last.
    pub settled: Option<SettledRecord>,
    /// The batches that it was turned into.
    pub outputs: Vec<BatchId>,
}

/// Who holds a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HolderRecord {
    /// The worker.
    pub worker: String,
    /// This lease's token.
    pub fence: FenceText,
    /// The lease ends here unless it is extended.
    pub deadline: Rfc3339,
    /// Processing has begun, the attempt is charged.
    pub started: bool,
    /// The claim that this lease answered.
    pub request_id: String,
    /// When it was claimed.
    pub claimed_at: Rfc3339,
    /// How long it lasts from each extension, milliseconds.
    pub duration_ms: u64,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// Stable code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// No retry would help.
    pub permanent: bool,
    /// When.
    pub at: Rfc3339,
}

/// The settle that was accepted last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettledRecord {
    /// Its token.
    pub fence: FenceText,
    /// What it said.
    pub result: Resolution,
}

fn time(time: Option<Timestamp>) -> Option<Rfc3339> {
    time.map(Rfc3339)
}

fn stamp(time: Option<Rfc3339>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

impl From<Batch> for BatchRecord {
    fn from(batch: Batch) -> Self {
        BatchRecord {
            spec: batch.spec.into(),
            state: batch.state,
            attempts: batch.attempts,
            lost_leases: batch.lost_leases,
            lease: batch.lease.map(HolderRecord::from),
            progress: batch.progress,
            error: batch.error.map(FailureRecord::from),
            registered_at: Rfc3339(batch.registered_at),
            updated_at: Rfc3339(batch.updated_at),
            due_at: time(batch.due_at),
            first_attempt_at: time(batch.first_attempt_at),
            finished_at: time(batch.finished_at),
            last_fence: FenceText(batch.last_fence),
            settled: batch
                .settled
                .map(|(fence, result)| SettledRecord { fence: FenceText(fence), result }),
            outputs: batch.outputs,
        }
    }
}

impl From<BatchRecord> for Batch {
    fn from(record: BatchRecord) -> Self {
        let settled =
            |settled: SettledRecord| -> (Fence, Resolution) { (settled.fence.0, settled.result) };
        Batch {
            spec: BatchSpec::from(record.spec),
            state: record.state,
            attempts: record.attempts,
            lost_leases: record.lost_leases,
            lease: record.lease.map(Holder::from),
            progress: record.progress,
            error: record.error.map(Failure::from),
            registered_at: record.registered_at.0,
            updated_at: record.updated_at.0,
            due_at: stamp(record.due_at),
            first_attempt_at: stamp(record.first_attempt_at),
            finished_at: stamp(record.finished_at),
            last_fence: record.last_fence.0,
            settled: record.settled.map(settled),
            outputs: record.outputs,
        }
    }
}

impl From<Holder> for HolderRecord {
    fn from(holder: Holder) -> Self {
        HolderRecord {
            worker: holder.worker,
            fence: FenceText(holder.fence),
            deadline: Rfc3339(holder.deadline),
            started: holder.started,
            request_id: holder.request_id,
            claimed_at: Rfc3339(holder.claimed_at),
            duration_ms: millis(holder.duration),
        }
    }
}

impl From<HolderRecord> for Holder {
    fn from(record: HolderRecord) -> Self {
        Holder {
            worker: record.worker,
            fence: record.fence.0,
            deadline: record.deadline.0,
            started: record.started,
            request_id: record.request_id,
            claimed_at: record.claimed_at.0,
            duration: Duration::from_millis(record.duration_ms),
        }
    }
}

impl From<Failure> for FailureRecord {
    fn from(failure: Failure) -> Self {
        FailureRecord {
            code: failure.code,
            message: failure.message,
            permanent: failure.permanent,
            at: Rfc3339(failure.at),
        }
    }
}

impl From<FailureRecord> for Failure {
    fn from(record: FailureRecord) -> Self {
        Failure {
            code: record.code,
            message: record.message,
            permanent: record.permanent,
            at: record.at.0,
        }
    }
}
