//! The coordinator's view of the store.

use async_trait::async_trait;
use sheaf_proto::BatchId;
use sheaf_rpc::{PayloadDirectory, PayloadFacts};
use sheaf_store::Store;

/// What the store knows, for whoever registers a batch by its name alone.
pub(super) struct Directory {
    store: Store,
    locations: Vec<String>,
}

impl Directory {
    pub(super) fn new(store: Store, locations: Vec<String>) -> Self {
        Directory { store, locations }
    }
}

#[async_trait]
impl PayloadDirectory for Directory {
    async fn lookup(&self, ids: &[BatchId]) -> Vec<Option<PayloadFacts>> {
        ids.iter()
            .map(|id| {
                // Used now: it must not expire before it is registered.
                self.store.renew(id).ok()?;
                let info = self.store.info(id).ok()?;
                Some(PayloadFacts {
                    locations: self.locations.clone(),
                    rows: info.rows,
                    bytes: info.bytes,
                    checksum: info.checksum,
                    schema_fingerprint: info.schema_fingerprint,
                })
            })
            .collect()
    }
}
