//! What the coordinator knows of a batch.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, Timestamp};

/// The queue of batches that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// Where a batch is: always exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for other batches to complete.
    Waiting,
    /// Ready to be claimed.
    Pending,
    /// Delayed, or backing off after a failure.
    Scheduled,
    /// Under lease.
    Processing,
    /// Done.
    Completed,
    /// Dead letter: out of retries, or failed for good.
    Failed,
    /// Taken out by hand.
    Cancelled,
    /// Not claimed before its time ran out.
    Expired,
}

impl State {
    /// Every state, in the order in which tables show them.
    pub const ALL: [State; 8] = [
        State::Waiting,
        State::Pending,
        State::Scheduled,
        State::Processing,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ];

    /// The word in JSON, tables and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Pending => "pending",
            State::Scheduled => "scheduled",
            State::Processing => "processing",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }

    /// Whether nobody has taken the batch yet.
    pub(crate) const fn is_unclaimed(self) -> bool {
        matches!(self, State::Waiting | State::Pending | State::Scheduled)
    }

    /// Whether nothing more happens to the batch by itself.
    pub const fn is_terminal(self) -> bool {
        matches!(self, State::Completed | State::Failed | State::Cancelled | State::Expired)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A fencing token: a later lease of a batch has a greater one, also across restarts.
///
/// The high 20 bits are the epoch of the coordinator that made it, the low 44
/// bits are at least that coordinator's time in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What becomes of a batch when one that it depends on does not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnParentFailure {
    /// It fails too.
    #[default]
    Fail,
    /// It waits until the other is requeued and completes.
    Wait,
    /// It is cancelled.
    Cancel,
}

/// A batch as its producer registers it.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchSpec {
    /// Names the batch and its payload.
    pub id: BatchId,
    /// The queue whose workers take it.
    pub queue: String,
    /// Higher goes first; 0 is the default.
    pub priority: i32,
    /// On whose behalf; empty where nobody is named.
    pub tenant: String,
    /// Key of the partition that the batch belongs to; empty where there is none.
    pub partition_key: String,
    /// Lineage: the batches that this one was made from.
    pub parents: Vec<BatchId>,
    /// Runs only after these have completed.
    pub depends_on: Vec<BatchId>,
    /// When one of `depends_on` does not complete.
    pub on_parent_failure: OnParentFailure,
    /// When to try again; `None` takes the coordinator's default.
    pub retry: Option<RetryPolicy>,
    /// Not before this long after registration.
    pub delay: Duration,
    /// Flight addresses that hold the payload; empty means the store beside the coordinator.
    pub locations: Vec<String>,
    /// Rows of the payload.
    pub rows: u64,
    /// Bytes of the payload's messages.
    pub bytes: u64,
    /// xxh3-128 of the payload's messages, lower-case hexadecimal; empty where unknown.
    pub checksum: String,
    /// Fingerprint of the schema, lower-case hexadecimal; empty where unknown.
    pub schema_fingerprint: String,
    /// Another batch of the same queue and tenant that is registered with this
    /// key within `dedup_window` is answered as this one; empty is no key.
    pub dedup_key: String,
    /// How long `dedup_key` is remembered.
    pub dedup_window: Duration,
    /// Not claimed within this time after registration, it is expired; `None` is never.
    pub expires_after: Option<Duration>,
    /// W3C `traceparent`; empty where there is none.
    pub trace_context: String,
}

impl BatchSpec {
    /// A batch of the default queue with nothing else said.
    pub fn new(id: BatchId) -> Self {
        BatchSpec {
            id,
            queue: DEFAULT_QUEUE.to_owned(),
            priority: 0,
            tenant: String::new(),
            partition_key: String::new(),
            parents: Vec::new(),
            depends_on: Vec::new(),
            on_parent_failure: OnParentFailure::Fail,
            retry: None,
            delay: Duration::ZERO,
            locations: Vec::new(),
            rows: 0,
            bytes: 0,
            checksum: String::new(),
            schema_fingerprint: String::new(),
            dedup_key: String::new(),
            dedup_window: Duration::ZERO,
            expires_after: None,
            trace_context: String::new(),
        }
    }
}

/// Why an attempt, or a batch, failed. Messages are cut at 4 KiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// No retry would help.
    pub permanent: bool,
    /// When; set by the coordinator.
    pub at: Timestamp,
}

/// How far the work on a batch is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Rows done.
    pub rows_done: u64,
    /// Rows in all; 0 where unknown.
    pub rows_total: u64,
    /// For people; cut at 256 bytes.
    pub note: String,
}

/// Who holds a batch, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The worker, unique per process start.
    pub worker: String,
    /// This lease's fencing token.
    pub fence: Fence,
    /// The lease ends here unless it is extended.
    pub deadline: Timestamp,
    /// Processing has begun, the attempt is charged.
    pub started: bool,
    /// The claim that this lease answered.
    pub request_id: String,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// How long it lasts from each extension.
    pub duration: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Done.
    Completed,
    /// Failed; the batch's policy decides what follows.
    Failed,
    /// Given back untouched; no attempt is charged.
    Released,
}

/// All that is known of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// As registered.
    pub spec: BatchSpec,
    /// Where it is.
    pub state: State,
    /// Attempts charged.
    pub attempts: u32,
    /// Leases that ran out in a row: a settle or a requeue starts anew.
    pub lost_leases: u32,
    /// Who holds it, while `processing`.
    pub lease: Option<Holder>,
    /// How far the current attempt is.
    pub progress: Option<Progress>,
    /// The last failure.
    pub error: Option<Failure>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it becomes pending, while `scheduled`.
    pub due_at: Option<Timestamp>,
    /// When its first attempt began.
    pub first_attempt_at: Option<Timestamp>,
    /// When it reached its terminal state.
    pub finished_at: Option<Timestamp>,
    /// The last token handed out for it.
    pub last_fence: Fence,
    /// The token whose settle was accepted last, and how it ended.
    pub settled: Option<(Fence, Resolution)>,
    /// The batches that it was turned into.
    pub outputs: Vec<BatchId>,
}
