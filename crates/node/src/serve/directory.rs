//! The coordinator's view of the store.

use async_trait::async_trait;
use sheaf_coordinator::{BatchSpec, Registered};
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
    is_owned: bool,
}

impl StoreDirectory {
    /// Looks payloads up in `store`, of which it keeps a clone. It is the one
    /// beside the coordinator: batches are registered without an address.
    pub fn new(store: Store) -> Self {
        StoreDirectory { store, locations: Vec::new(), is_owned: false }
    }

    /// Registers batches under these Flight addresses, where others reach the store.
    #[must_use]
    pub fn with_locations(self, locations: Vec<String>) -> Self {
        StoreDirectory { locations, ..self }
    }

    /// Keeps what is registered until the store's owner, which is this
    /// coordinator, says that the work is over, also over a loss of its state.
    #[must_use]
    pub fn keeping_registered(self) -> Self {
        StoreDirectory { is_owned: true, ..self }
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

    async fn registered(&self, batches: Vec<(BatchSpec, Registered)>) {
        if !self.is_owned {
            return;
        }
        let there = |spec: &BatchSpec| self.store.is_unmarked(&spec.id);
        let marks = batches.iter().filter(|(spec, _)| there(spec)).filter_map(|(spec, answer)| {
            Some((spec.id.clone(), CoordinatorOwner::mark(spec, answer)?))
        });
        let marks: Vec<_> = marks.collect();
        if !marks.is_empty() {
            self.store.mark(marks).await;
        }
    }
}
