//! Compares, after a start, what is to be done with what is there.

use std::sync::Arc;

use sheaf_coordinator::{Answer, Coordinator, Error, ListFilter, Query, State};
use sheaf_proto::BatchId;
use sheaf_store::Store;

/// Batches looked at in one go.
const PAGE: u32 = 1_000;
/// Names that a warning tells.
const SHOWN: usize = 10;

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Batches that are not over and whose payload should be here.
    pub(super) live: u64,
    /// Of them those whose payload is gone.
    pub(super) missing: u64,
    /// The first of these.
    pub(super) names: Vec<BatchId>,
}

/// Counts the live batches whose payload is gone, and says so in the log.
///
/// Nothing is changed: a worker that claims such a batch settles it as failed
/// with code `payload_lost`, which also covers payloads that get lost later.
pub(super) async fn reconcile(coordinator: Arc<dyn Coordinator>, store: Store) {
    match compare(coordinator.as_ref(), &store).await {
        Ok(Found { live, missing: 0, .. }) => {
            tracing::info!(live, "every live batch has its payload");
        }
        Ok(Found { live, missing, names }) => tracing::warn!(
            live,
            missing,
            ?names,
            "batches without payload will fail with payload_lost when they are claimed"
        ),
        Err(error) => tracing::warn!(%error, "batches and payloads could not be compared"),
    }
}

pub(super) async fn compare(coordinator: &dyn Coordinator, store: &Store) -> Result<Found, Error> {
    let states = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let mut filter = ListFilter { states, limit: PAGE, ..ListFilter::default() };
    let mut found = Found::default();
    loop {
        let Answer::Batches(page) = coordinator.query(Query::List(filter.clone())).await? else {
            return Ok(found);
        };
        // Payloads at other addresses are none of this store's business.
        for batch in page.batches.iter().filter(|batch| batch.spec.locations.is_empty()) {
            found.live += 1;
            if store.info(&batch.spec.id).is_err() {
                found.missing += 1;
                if found.names.len() < SHOWN {
                    found.names.push(batch.spec.id.clone());
                }
            }
        }
        if page.next_cursor.is_empty() {
            return Ok(found);
        }
        filter.cursor = page.next_cursor;
    }
}
