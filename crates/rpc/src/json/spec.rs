//! A batch as it is registered, in JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{BatchSpec, DEFAULT_QUEUE, OnParentFailure};
use sheaf_proto::BatchId;
use sheaf_retry::RetryPolicy;

use super::scalar::millis;

/// What `RegisterBatch` takes for one batch; only `batch_id` is required.
///
/// `location`, `rows`, `bytes`, `checksum` and `fingerprint` are filled in for
/// a payload that the Flight server holds. `locations: []` says outright that
/// the payload is in the store beside the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecInput {
    /// Names the batch and its payload.
    pub batch_id: BatchId,
    /// Default `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// On whose behalf.
    #[serde(default)]
    pub tenant: String,
    /// Key of its partition.
    #[serde(default)]
    pub partition_key: String,
    /// Lineage.
    #[serde(default)]
    pub parents: Vec<BatchId>,
    /// Runs only after these have completed.
    #[serde(default)]
    pub depends_on: Vec<BatchId>,
    /// `fail`, `wait` or `cancel`.
    #[serde(default)]
    pub on_parent_failure: OnParentFailure,
    /// When to try again; absent takes the coordinator's default.
    #[serde(default)]
    pub retry: Option<RetryPolicy>,
    /// Not before this many milliseconds have passed.
    #[serde(default)]
    pub delay_ms: u64,
    /// One address of the payload; not together with `locations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Every address of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<Vec<String>>,
    /// Rows of the payload.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Bytes of the payload's messages.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// xxh3-128 of the payload's messages, lower-case hexadecimal.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Fingerprint of the schema, lower-case hexadecimal.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The same key again within the window is the first batch.
    #[serde(default)]
    pub dedup_key: String,
    /// How long `dedup_key` is remembered, milliseconds.
    #[serde(default)]
    pub dedup_window_ms: u64,
    /// Not claimed within this many milliseconds, it is expired.
    #[serde(default)]
    pub expires_after_ms: Option<u64>,
    /// W3C `traceparent`.
    #[serde(default)]
    pub trace_context: String,
}

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

impl SpecInput {
    /// A batch of which only the identifier is said.
    pub fn new(id: BatchId) -> Self {
        let spec = SpecInput::from(BatchSpec::new(id));
        SpecInput {
            locations: None,
            rows: None,
            bytes: None,
            checksum: None,
            fingerprint: None,
            ..spec
        }
    }

    /// The specification, with what stands in `facts` where nothing was said.
    pub(crate) fn resolve(self, facts: &crate::PayloadFacts) -> BatchSpec {
        let one = self.location.map(|location| vec![location]);
        BatchSpec {
            id: self.batch_id,
            queue: self.queue,
            priority: self.priority,
            tenant: self.tenant,
            partition_key: self.partition_key,
            parents: self.parents,
            depends_on: self.depends_on,
            on_parent_failure: self.on_parent_failure,
            retry: self.retry,
            delay: Duration::from_millis(self.delay_ms),
            locations: self.locations.or(one).unwrap_or_else(|| facts.locations.clone()),
            rows: self.rows.unwrap_or(facts.rows),
            bytes: self.bytes.unwrap_or(facts.bytes),
            checksum: self.checksum.unwrap_or_else(|| facts.checksum.clone()),
            schema_fingerprint: self
                .fingerprint
                .unwrap_or_else(|| facts.schema_fingerprint.clone()),
            dedup_key: self.dedup_key,
            dedup_window: Duration::from_millis(self.dedup_window_ms),
            expires_after: self.expires_after_ms.map(Duration::from_millis),
            trace_context: self.trace_context,
        }
    }
}

impl From<BatchSpec> for SpecInput {
    /// Everything is said outright, nothing left to be filled in.
    fn from(spec: BatchSpec) -> Self {
        SpecInput {
            batch_id: spec.id,
            queue: spec.queue,
            priority: spec.priority,
            tenant: spec.tenant,
            partition_key: spec.partition_key,
            parents: spec.parents,
            depends_on: spec.depends_on,
            on_parent_failure: spec.on_parent_failure,
            retry: spec.retry,
            delay_ms: millis(spec.delay),
            location: None,
            locations: Some(spec.locations),
            rows: Some(spec.rows),
            bytes: Some(spec.bytes),
            checksum: Some(spec.checksum),
            fingerprint: Some(spec.schema_fingerprint),
            dedup_key: spec.dedup_key,
            dedup_window_ms: millis(spec.dedup_window),
            expires_after_ms: spec.expires_after.map(millis),
            trace_context: spec.trace_context,
        }
    }
}

/// A registered batch's specification, as records and leases show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecRecord {
    /// Names the batch and its payload.
    pub batch_id: BatchId,
    /// Its queue.
    pub queue: String,
    /// Higher goes first.
    pub priority: i32,
    /// On whose behalf; empty where nobody is named.
    pub tenant: String,
    /// Key of its partition; empty where there is none.
    pub partition_key: String,
    /// Lineage.
    pub parents: Vec<BatchId>,
    /// Runs only after these have completed.
    pub depends_on: Vec<BatchId>,
    /// `fail`, `wait` or `cancel`.
    pub on_parent_failure: OnParentFailure,
    /// Its policy; `null` is the coordinator's default.
    pub retry: Option<RetryPolicy>,
    /// As registered, milliseconds.
    pub delay_ms: u64,
    /// The first of `locations`; `null` is the connection that asked.
    pub location: Option<String>,
    /// Flight addresses that hold the payload.
    pub locations: Vec<String>,
    /// Ticket for DoGet: `batches/ID`.
    pub ticket: String,
    /// Rows of the payload.
    pub rows: u64,
    /// Bytes of the payload's messages.
    pub bytes: u64,
    /// xxh3-128 of the payload's messages; empty where unknown.
    pub checksum: String,
    /// Fingerprint of the schema; empty where unknown.
    pub fingerprint: String,
    /// Empty where there is none.
    pub dedup_key: String,
    /// Milliseconds.
    pub dedup_window_ms: u64,
    /// Milliseconds; `null` is never.
    pub expires_after_ms: Option<u64>,
    /// W3C `traceparent`; empty where there is none.
    pub trace_context: String,
}

impl From<BatchSpec> for SpecRecord {
    fn from(spec: BatchSpec) -> Self {
        SpecRecord {
            ticket: format!("batches/{}", spec.id),
            batch_id: spec.id,
            queue: spec.queue,
            priority: spec.priority,
            tenant: spec.tenant,
            partition_key: spec.partition_key,
            parents: spec.parents,
            depends_on: spec.depends_on,
            on_parent_failure: spec.on_parent_failure,
            retry: spec.retry,
            delay_ms: millis(spec.delay),
            location: spec.locations.first().cloned(),
            locations: spec.locations,
            rows: spec.rows,
            bytes: spec.bytes,
            checksum: spec.checksum,
            fingerprint: spec.schema_fingerprint,
            dedup_key: spec.dedup_key,
            dedup_window_ms: millis(spec.dedup_window),
            expires_after_ms: spec.expires_after.map(millis),
            trace_context: spec.trace_context,
        }
    }
}

impl From<SpecRecord> for BatchSpec {
    fn from(record: SpecRecord) -> Self {
        BatchSpec {
            id: record.batch_id,
            queue: record.queue,
            priority: record.priority,
            tenant: record.tenant,
            partition_key: record.partition_key,
            parents: record.parents,
            depends_on: record.depends_on,
            on_parent_failure: record.on_parent_failure,
            retry: record.retry,
            delay: Duration::from_millis(record.delay_ms),
            locations: record.locations,
            rows: record.rows,
            bytes: record.bytes,
            checksum: record.checksum,
            schema_fingerprint: record.fingerprint,
            dedup_key: record.dedup_key,
            dedup_window: Duration::from_millis(record.dedup_window_ms),
            expires_after: record.expires_after_ms.map(Duration::from_millis),
            trace_context: record.trace_context,
        }
    }
}
