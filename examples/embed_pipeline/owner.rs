//! The store's view of the coordinator.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use sheaf_coordinator::embedded::Embedded;
use sheaf_coordinator::{Answer, BatchSpec, Coordinator as _, Query};
use sheaf_flight::{Error, invalid};
use sheaf_proto::BatchId;
use sheaf_store::{PayloadInfo, PayloadOwner, Standing};

/// What ties the store to the coordinator: payloads are kept as long as there is
/// work to be done on them, and after that as long as the store's time to live.
pub(crate) struct Owner(pub(crate) Arc<Embedded>);

#[async_trait]
impl PayloadOwner for Owner {
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error> {
        let answer = self.0.query(Query::Get(ids.to_vec())).await.map_err(Error::from_error)?;
        let Answer::Batches(found) = answer else { return Err(invalid("not what was asked")) };
        let open = found.batches.iter().filter(|batch| !batch.state.is_terminal());
        let open: HashSet<_> = open.map(|batch| &batch.spec.id).collect();
        let of = |id| if open.contains(id) { Standing::Live } else { Standing::Unregistered };
        Ok(ids.iter().map(of).collect())
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error> {
        let (rows, bytes, checksum) = (payload.rows, payload.bytes, payload.checksum.clone());
        let spec = BatchSpec { rows, bytes, checksum, ..BatchSpec::new(payload.id.clone()) };
        self.0.register(vec![spec]).await.map(drop).map_err(Error::from_error)
    }
}
