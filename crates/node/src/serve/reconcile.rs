//! Compares what is to be done with what is there, after a start and now and then.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Coordinator, CoordinatorExt as _, Error, ListFilter, State};
use sheaf_proto::BatchId;
use sheaf_retry::SharedClock;
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

/// How often they are compared again.
const EVERY: Duration = Duration::from_secs(600);
/// After a comparison that failed: the coordinator may be away.
const SOON: Duration = Duration::from_secs(30);

/// Counts the live batches whose payload is gone, and says so in the log; from
/// time to time again, without end.
///
/// Nothing is changed: a worker that claims such a batch settles it as failed
/// with code `payload_lost`, which also covers payloads that get lost later.
pub(super) async fn reconcile(
    coordinator: Arc<dyn Coordinator>,
    store: Store,
    own: Vec<String>,
    clock: SharedClock,
) {
    let mut before = None;
    loop {
        let pause = match compare(coordinator.as_ref(), &store, &own).await {
            Ok(found) if before.as_ref() == Some(&found.missing) => EVERY,
            Ok(found) => {
                before = Some(found.missing);
                tell(&found);
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "batches and payloads could not be compared");
                SOON
            }
        };
        clock.sleep(pause).await;
    }
}

fn tell(found: &Found) {
    let Found { live, missing, names } = found;
    if *missing == 0 {
        return tracing::info!(live, "every live batch has its payload");
    }
    tracing::warn!(
        live,
        missing,
        ?names,
        "batches without payload will fail with payload_lost when they are claimed"
    );
}

/// Payloads at other addresses are none of this store's business.
fn here(locations: &[String], own: &[String]) -> bool {
    locations.is_empty() || locations.iter().any(|location| own.contains(location))
}

pub(super) async fn compare(
    coordinator: &dyn Coordinator,
    store: &Store,
    own: &[String],
) -> Result<Found, Error> {
    let states = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let mut filter = ListFilter { states, limit: PAGE, ..ListFilter::default() };
    let mut found = Found::default();
    loop {
        let page = coordinator.list(filter.clone()).await?;
        for batch in page.batches.iter().filter(|batch| here(&batch.spec.locations, own)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_coordinator::BatchSpec;
    use sheaf_coordinator::embedded::{Config, Embedded};
    use sheaf_flight::ipc;
    use sheaf_retry::SystemClock;
    use sheaf_store::{Options, PutOptions};

    #[tokio::test]
    async fn live_batches_without_payload_are_counted() {
        let clock = SystemClock::shared();
        let store = Store::open(Options::new(clock.clone())).await.unwrap();
        let coordinator = Embedded::open(Config::memory(), clock).unwrap();
        let spec = |id: &str| BatchSpec::new(id.parse().unwrap());
        let mut specs: Vec<_> = ["here", "gone", "elsewhere", "over", "gone too"]
            .map(|id| spec(&id.replace(' ', "-")))
            .into();
        specs[2].locations = vec!["grpc://h:1".to_owned()];
        let own = ["grpc://h:2".to_owned()];
        specs[4].locations = own.to_vec();
        coordinator.register(specs).await.unwrap();
        let cancel = sheaf_coordinator::Control::Cancel(vec!["over".parse().unwrap()]);
        coordinator.control(cancel).await.unwrap();
        let schema = ipc::encode_schema(&arrow_schema::Schema::empty());
        let messages = Box::pin(futures::stream::iter([Ok(schema)]));
        let here = Some("here".parse().unwrap());
        store.put(here, messages, PutOptions::MEMORY).await.unwrap();

        let found = compare(&coordinator, &store, &own).await.unwrap();
        let names = vec!["gone".parse().unwrap(), "gone-too".parse().unwrap()];
        assert_eq!(found, Found { live: 3, missing: 2, names });
    }
}
