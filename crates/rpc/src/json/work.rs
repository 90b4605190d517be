//! Claims, extensions and settles, in JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{
    Claim, ClaimRequest, Extended, Extension, Failure, Lease, LeaseRef, Progress, Resolution,
    SettleReply, Settled, Standing, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use super::scalar::{FenceText, OneOrMany, Rfc3339, millis};
use super::spec::{SpecInput, SpecRecord};

/// Names a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseInput {
    /// The batch.
    pub batch_id: BatchId,
    /// The token of the lease.
    pub fence: FenceText,
}

impl From<LeaseInput> for LeaseRef {
    fn from(input: LeaseInput) -> Self {
        LeaseRef { id: input.batch_id, fence: input.fence.0 }
    }
}

impl From<LeaseRef> for LeaseInput {
    fn from(lease: LeaseRef) -> Self {
        LeaseInput { batch_id: lease.id, fence: FenceText(lease.fence) }
    }
}

/// What `Claim` takes; only `worker` is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimInput {
    /// Who asks: unique per process start.
    pub worker: String,
    /// Unique per claim; sent again, it is answered with the same leases. The
    /// server makes one where there is none.
    #[serde(default)]
    pub request_id: Option<String>,
    /// One queue or several; default `default`.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub queue: OneOrMany<String>,
    /// Most batches; default 1.
    #[serde(default = "one")]
    pub max: u32,
    /// Most payload bytes in all; 0 is no bound.
    #[serde(default)]
    pub max_bytes: u64,
    /// Most rows in all; 0 is no bound.
    #[serde(default)]
    pub max_rows: u64,
    /// How long the leases last; absent takes the server's default.
    #[serde(default)]
    pub lease_ms: Option<u64>,
    /// How long to wait when there is nothing, at most 60,000.
    #[serde(default)]
    pub wait_ms: u64,
    /// Addresses on which the caller has payloads at hand.
    #[serde(default)]
    pub locations: Vec<String>,
    /// Exactly this batch, or these.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub batch_id: OneOrMany<BatchId>,
    /// Charge the attempts at once; default `true`.
    #[serde(default = "yes")]
    pub start: bool,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

impl ClaimInput {
    pub(crate) fn resolve(self, lease: Duration) -> ClaimRequest {
        ClaimRequest {
            worker: self.worker,
            // Random: what sorts an identifier by time is of no use here.
            request_id: self.request_id.unwrap_or_else(|| BatchId::generate(0).as_str().to_owned()),
            queues: self.queue.0,
            max: self.max,
            max_bytes: self.max_bytes,
            max_rows: self.max_rows,
            lease: self.lease_ms.map_or(lease, Duration::from_millis),
            wait: Duration::from_millis(self.wait_ms),
            locations: self.locations,
            ids: self.batch_id.0,
            start: self.start,
        }
    }
}

impl From<ClaimRequest> for ClaimInput {
    fn from(request: ClaimRequest) -> Self {
        ClaimInput {
            worker: request.worker,
            request_id: Some(request.request_id),
            queue: OneOrMany(request.queues),
            max: request.max,
            max_bytes: request.max_bytes,
            max_rows: request.max_rows,
            lease_ms: Some(millis(request.lease)),
            wait_ms: millis(request.wait),
            locations: request.locations,
            batch_id: OneOrMany(request.ids),
            start: request.start,
        }
    }
}

/// A batch given to a worker for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The batch as registered, with `location` and `ticket`.
    #[serde(flatten)]
    pub spec: SpecRecord,
    /// Proves who holds it.
    pub fence: FenceText,
    /// When it ends, by the coordinator's clock.
    pub deadline: Rfc3339,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// What `Claim` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimOutput {
    /// By priority, then age.
    pub leases: Vec<LeaseRecord>,
    /// The coordinator's time.
    pub now: Rfc3339,
    /// When the next scheduled batch falls due.
    pub next_due: Option<Rfc3339>,
}

impl From<Claim> for ClaimOutput {
    fn from(claim: Claim) -> Self {
        let record = |lease: Lease| LeaseRecord {
            spec: lease.spec.into(),
            fence: FenceText(lease.fence),
            deadline: Rfc3339(lease.deadline),
            attempt: lease.attempt,
        };
        ClaimOutput {
            leases: claim.leases.into_iter().map(record).collect(),
            now: Rfc3339(claim.now),
            next_due: claim.next_due.map(Rfc3339),
        }
    }
}

impl From<ClaimOutput> for Claim {
    fn from(output: ClaimOutput) -> Self {
        let lease = |record: LeaseRecord| Lease {
            spec: record.spec.into(),
            fence: record.fence.0,
            deadline: record.deadline.0,
            attempt: record.attempt,
        };
        Claim {
            leases: output.leases.into_iter().map(lease).collect(),
            now: output.now.0,
            next_due: output.next_due.map(|time| time.0),
        }
    }
}

/// One lease of an `Extend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionInput {
    /// The batch.
    pub batch_id: BatchId,
    /// The token of the lease.
    pub fence: FenceText,
    /// Processing has begun: charge the attempt if it is not yet charged.
    #[serde(default)]
    pub started: bool,
    /// How far it is.
    #[serde(default)]
    pub progress: Option<ProgressInput>,
    /// A new duration; absent keeps that of the claim.
    #[serde(default)]
    pub lease_ms: Option<u64>,
}

/// How far the work is; every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProgressInput {
    /// Rows done.
    pub rows_done: u64,
    /// Rows in all; 0 where unknown.
    pub rows_total: u64,
    /// For people.
    pub note: String,
}

impl From<ExtensionInput> for Extension {
    fn from(input: ExtensionInput) -> Self {
        let progress = |input: ProgressInput| Progress {
            rows_done: input.rows_done,
            rows_total: input.rows_total,
            note: input.note,
        };
        Extension {
            lease: LeaseRef { id: input.batch_id, fence: input.fence.0 },
            started: input.started,
            progress: input.progress.map(progress),
            duration: input.lease_ms.map(Duration::from_millis),
        }
    }
}

impl From<Extension> for ExtensionInput {
    fn from(extension: Extension) -> Self {
        let progress = |progress: Progress| ProgressInput {
            rows_done: progress.rows_done,
            rows_total: progress.rows_total,
            note: progress.note,
        };
        ExtensionInput {
            batch_id: extension.lease.id,
            fence: FenceText(extension.lease.fence),
            started: extension.started,
            progress: extension.progress.map(progress),
            lease_ms: extension.duration.map(millis),
        }
    }
}

/// What `Extend` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendInput {
    /// The leases to prolong.
    pub leases: Vec<ExtensionInput>,
}

/// The answer for one lease of an `Extend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtendedRecord {
    /// The batch.
    pub batch_id: BatchId,
    /// `applied`, `stale` or `not_found`.
    #[serde(with = "VerdictWord")]
    pub verdict: Verdict,
    /// The new end of the lease, where it stands.
    pub deadline: Option<Rfc3339>,
    /// The batch was cancelled: stop the work.
    pub cancelled: bool,
}

/// What `Extend` answers, in the order asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtendOutput {
    /// One per lease.
    pub leases: Vec<ExtendedRecord>,
}

impl From<Extended> for ExtendedRecord {
    fn from(extended: Extended) -> Self {
        ExtendedRecord {
            batch_id: extended.id,
            verdict: extended.verdict,
            deadline: extended.deadline.map(Rfc3339),
            cancelled: extended.cancelled,
        }
    }
}

impl From<ExtendedRecord> for Extended {
    fn from(record: ExtendedRecord) -> Self {
        Extended {
            id: record.batch_id,
            verdict: record.verdict,
            deadline: record.deadline.map(|time| time.0),
            cancelled: record.cancelled,
        }
    }
}

/// One ended attempt of a `Settle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeInput {
    /// The batch.
    pub batch_id: BatchId,
    /// The token of the lease.
    pub fence: FenceText,
    /// `completed`, `failed` or `released`.
    pub result: Resolution,
    /// Why it failed or is given back: a text, or `{"code","message","permanent"}`.
    #[serde(default)]
    pub error: Option<ErrorInput>,
    /// No retry would help; default `false`.
    #[serde(default)]
    pub permanent: bool,
    /// Batches made from it: identifiers, or objects as for `RegisterBatch`.
    #[serde(default)]
    pub outputs: Vec<OutputInput>,
    /// Of a release: how long the batch rests before it is pending again.
    #[serde(default)]
    pub delay_ms: u64,
}

/// What a text instead of an object is taken for, and what a failure without
/// a reason says.
const NO_REASON: &str = "the worker gave no reason";

impl OutcomeInput {
    pub(crate) fn failure(&self) -> Option<Failure> {
        let blank = || ErrorInput::new(NO_REASON.to_owned());
        let error = match &self.error {
            Some(error) => error.clone(),
            None if self.permanent => blank(),
            None => return None,
        };
        Some(Failure {
            code: error.code,
            message: error.message,
            permanent: error.permanent || self.permanent,
            // The coordinator puts its own time here.
            at: Timestamp::EPOCH,
        })
    }
}

/// Why an attempt failed, as the worker says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorInput {
    /// Stable code; default `processor_failed`.
    pub code: Code,
    /// For people.
    pub message: String,
    /// No retry would help; default `false`.
    pub permanent: bool,
}

impl ErrorInput {
    fn new(message: String) -> Self {
        ErrorInput { code: Code::ProcessorFailed, message, permanent: false }
    }
}

impl From<Failure> for ErrorInput {
    fn from(failure: Failure) -> Self {
        ErrorInput { code: failure.code, message: failure.message, permanent: failure.permanent }
    }
}

/// An output: an identifier alone, or a whole specification.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OutputInput(pub SpecInput);

/// What `Settle` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleInput {
    /// Ended attempts.
    #[serde(default)]
    pub outcomes: Vec<OutcomeInput>,
    /// Leases of a claim with `"start": false` whose processing begins now.
    #[serde(default)]
    pub started: Vec<LeaseInput>,
    /// What to claim next, in the same step.
    #[serde(default)]
    pub claim: Option<ClaimInput>,
}

/// The answer for one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The batch.
    pub batch_id: BatchId,
    /// `applied`, `already_done`, `stale` or `not_found`.
    #[serde(with = "VerdictWord")]
    pub verdict: Verdict,
    /// Its state after the call; `null` where there is no such batch.
    pub state: Option<State>,
}

impl From<Settled> for VerdictRecord {
    fn from(settled: Settled) -> Self {
        VerdictRecord { batch_id: settled.id, verdict: settled.verdict, state: settled.state }
    }
}

impl From<VerdictRecord> for Settled {
    fn from(record: VerdictRecord) -> Self {
        Settled { id: record.batch_id, verdict: record.verdict, state: record.state }
    }
}

/// What `Settle` answers, in the order asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleOutput {
    /// One per outcome.
    pub outcomes: Vec<VerdictRecord>,
    /// One per started lease.
    pub started: Vec<VerdictRecord>,
    /// The claim, where one was asked for.
    pub claim: Option<ClaimOutput>,
}

impl From<SettleReply> for SettleOutput {
    fn from(reply: SettleReply) -> Self {
        SettleOutput {
            outcomes: reply.outcomes.into_iter().map(VerdictRecord::from).collect(),
            started: reply.started.into_iter().map(VerdictRecord::from).collect(),
            claim: reply.claim.map(ClaimOutput::from),
        }
    }
}

impl From<SettleOutput> for SettleReply {
    fn from(output: SettleOutput) -> Self {
        SettleReply {
            outcomes: output.outcomes.into_iter().map(Settled::from).collect(),
            started: output.started.into_iter().map(Settled::from).collect(),
            claim: output.claim.map(Claim::from),
        }
    }
}

/// The words for [`Verdict`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict", rename_all = "snake_case")]
pub(crate) enum VerdictWord {
    Applied,
    AlreadyDone,
    Stale,
    NotFound,
}

/// The words for [`Standing`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Standing", rename_all = "snake_case")]
pub(crate) enum StandingWord {
    Current,
    Settled,
    Stale,
    NotFound,
}
