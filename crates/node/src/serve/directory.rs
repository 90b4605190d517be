//! The coordinator's view of the store.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_proto::BatchId;
use sheaf_rpc::{PayloadDirectory, PayloadFacts};
use sheaf_store::Store;
use sheaf_worker::CoordinatorOwner;

/// What a store knows, for whoever registers a batch by its name alone.
///
/// `RegisterBatch` then needs nothing but `batch_id`: rows, bytes, checksum and
/// fingerprint are those of the payload. A payload that is looked up counts as
/// used, so that it does not expire before it is registered.
///
/// ```
/// use std::sync::Arc;
///
/// use sheaf_coordinator::embedded::{Config, Embedded};
/// use sheaf_node::serve::StoreDirectory;
/// use sheaf_retry::SystemClock;
/// use sheaf_rpc::CoordinatorActions;
/// use sheaf_store::{Options, Store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let clock = SystemClock::shared();
/// let store = Store::open(Options::new(clock.clone())).await?;
/// let coordinator = Arc::new(Embedded::open(Config::memory(), clock.clone())?);
/// let actions = CoordinatorActions::new(coordinator, clock)
///     .with_directory(Arc::new(StoreDirectory::new(store)));
/// # drop(actions);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreDirectory {
    store: Store,
    locations: Vec<String>,
    owner: Option<Arc<CoordinatorOwner>>,
}

impl StoreDirectory {
    /// Looks payloads up in `store`, of which it keeps a clone. It is the one
    /// beside the coordinator: batches are registered without an address.
    pub fn new(store: Store) -> Self {
        StoreDirectory { store, locations: Vec::new(), owner: None }
    }

    /// Registers batches under these Flight addresses, where others reach the store.
    #[must_use]
    pub fn with_locations(self, locations: Vec<String>) -> Self {
        StoreDirectory { locations, ..self }
    }

    /// Keeps what is registered until `owner`, that of the store, says that the
    /// work is over, also over a loss of its coordinator.
    #[must_use]
    pub fn with_owner(self, owner: Arc<CoordinatorOwner>) -> Self {
        StoreDirectory { owner: Some(owner), ..self }
    }
}

#[async_trait]
impl PayloadDirectory for StoreDirectory {
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

    async fn registered(&self, specs: Vec<BatchSpec>) {
        let Some(owner) = &self.owner else { return };
        let mut marks = Vec::new();
        for spec in specs.iter().filter(|spec| self.store.is_unmarked(&spec.id)) {
            if let Some(mark) = owner.mark(spec).await {
                marks.push((spec.id.clone(), mark));
            }
        }
        if !marks.is_empty() {
            self.store.mark(marks).await;
        }
    }
}
