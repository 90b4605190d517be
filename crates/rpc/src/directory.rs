//! What the Flight server knows of the payloads that it holds.

use async_trait::async_trait;
use sheaf_coordinator::{BatchSpec, Registered};
use sheaf_proto::BatchId;

/// What `RegisterBatch` need not be told about a payload that is at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadFacts {
    /// Addresses that serve it; empty means the store beside the coordinator.
    pub locations: Vec<String>,
    /// Rows of all its record batches.
    pub rows: u64,
    /// Bytes of all its messages.
    pub bytes: u64,
    /// xxh3-128 of its messages, lower-case hexadecimal.
    pub checksum: String,
    /// Fingerprint of its schema, lower-case hexadecimal.
    pub schema_fingerprint: String,
}

/// Looks payloads up in the store of the same server.
///
/// 1. `lookup` answers in the order asked, one for each identifier; `None` is
///    a payload that the store does not hold.
/// 2. A payload that it answers for can be fetched from one of its locations
///    as soon as `lookup` has returned.
/// 3. What it holds of the batches that `registered` names, it keeps until a
///    coordinator says that the work is over. Nothing of it is an error to whoever
///    registered: it is also told when it compares what it has.
#[async_trait]
pub trait PayloadDirectory: Send + Sync + 'static {
    /// What is known of these payloads.
    async fn lookup(&self, ids: &[BatchId]) -> Vec<Option<PayloadFacts>>;

    /// These were registered, and what was answered; of outputs only the name
    /// and the state that they began with are known.
    async fn registered(&self, batches: Vec<(BatchSpec, Registered)>);
}
