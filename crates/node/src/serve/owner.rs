//! The store's view of the coordinator.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use sheaf_coordinator::{Answer, Batch, BatchSpec, Coordinator, Query};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, SharedClock, Timestamp};
use sheaf_store::{PayloadInfo, PayloadOwner, Standing};

/// Most batches asked about at once.
const PAGE: usize = 1_000;

/// Asks the coordinator what must still happen to payloads.
///
/// The store is opened first, since it checks lock and format of the data
/// directory; until the coordinator is there too, nothing can be known and
/// every payload is kept.
pub(super) struct Owner {
    coordinator: OnceLock<Arc<dyn Coordinator>>,
    clock: SharedClock,
    /// Where others reach the payloads; empty is the store beside the coordinator.
    locations: Vec<String>,
}

impl Owner {
    pub(super) fn new(clock: SharedClock, locations: Vec<String>) -> Self {
        Owner { coordinator: OnceLock::new(), clock, locations }
    }

    /// Answers are known from now on.
    pub(super) fn attach(&self, coordinator: Arc<dyn Coordinator>) {
        if self.coordinator.set(coordinator).is_err() {
            tracing::error!("the owner of the store was given a second coordinator");
        }
    }

    fn coordinator(&self) -> Result<&Arc<dyn Coordinator>, Error> {
        self.coordinator
            .get()
            .ok_or_else(|| Error::new(Code::Unavailable, "the coordinator is not open yet"))
    }
}

#[async_trait]
impl PayloadOwner for Owner {
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let answer = self.coordinator()?.query(Query::Get(page.to_vec())).await;
            let Answer::Batches(known) = answer.map_err(Error::from_error)? else {
                let message = "the coordinator answered another question than the one asked";
                return Err(Error::new(Code::Internal, message));
            };
            let now = self.clock.now();
            let by_id: HashMap<&BatchId, Standing> =
                known.batches.iter().map(|batch| (&batch.spec.id, standing(batch, now))).collect();
            let of = |id| by_id.get(id).copied().unwrap_or(Standing::Unregistered);
            standings.extend(page.iter().map(of));
        }
        Ok(standings)
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error> {
        let mut spec = BatchSpec::new(payload.id.clone());
        spec.locations.clone_from(&self.locations);
        (spec.rows, spec.bytes) = (payload.rows, payload.bytes);
        spec.checksum.clone_from(&payload.checksum);
        spec.schema_fingerprint.clone_from(&payload.schema_fingerprint);
        self.coordinator()?.register(vec![spec]).await.map_err(Error::from_error)?;
        Ok(())
    }
}

/// A payload is needed as long as its batch may still be worked on.
fn standing(batch: &Batch, now: Timestamp) -> Standing {
    match batch.state.is_terminal() {
        false => Standing::Live,
        true => Standing::Terminal { since: now.since(batch.finished_at.unwrap_or(now)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_coordinator::Control;
    use sheaf_coordinator::embedded::{Config, Embedded};
    use sheaf_retry::{Retryable as _, SystemClock};
    use sheaf_store::Durability;

    fn payload(id: &BatchId) -> PayloadInfo {
        PayloadInfo {
            id: id.clone(),
            rows: 7,
            bytes: 70,
            messages: 1,
            checksum: "c".repeat(32),
            schema_fingerprint: "f".repeat(16),
            schema: bytes::Bytes::new(),
            durability: Durability::Memory,
            created_at: Timestamp::EPOCH,
            used_at: Timestamp::EPOCH,
        }
    }

    #[tokio::test]
    async fn payloads_stand_as_their_batches_do() {
        let clock = SystemClock::shared();
        let owner = Owner::new(clock.clone(), vec!["grpc://h:1".to_owned()]);
        let ids: Vec<BatchId> = ["a", "b", "c"].map(|id| id.parse().unwrap()).into();
        let unknown = owner.standings(&ids).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unavailable);

        let coordinator = Arc::new(Embedded::open(Config::memory(), clock).unwrap());
        owner.attach(coordinator.clone());
        for id in &ids[..2] {
            owner.register(&payload(id)).await.unwrap();
            owner.register(&payload(id)).await.unwrap();
        }
        coordinator.control(Control::Cancel(vec![ids[1].clone()])).await.unwrap();
        let standings = owner.standings(&ids).await.unwrap();
        assert_eq!(standings[0], Standing::Live);
        assert!(matches!(standings[1], Standing::Terminal { .. }), "{standings:?}");
        assert_eq!(standings[2], Standing::Unregistered);
        let Answer::Batches(page) = coordinator.query(Query::Get(ids)).await.unwrap() else {
            panic!("not batches")
        };
        let spec = &page.batches[0].spec;
        assert_eq!((spec.rows, spec.bytes, spec.locations.len()), (7, 70, 1));
    }
}
