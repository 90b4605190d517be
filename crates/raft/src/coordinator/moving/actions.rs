//! The end on a node.

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_coordinator::Error;
use sheaf_coordinator::migration::{Endpoint as _, Phase};
use sheaf_flight::{ActionHandler, CallContext, ChannelPool, FORWARDED, Need, Right};

use super::ACTION;
use super::wire::{self, RecordsMessage, Step, Told};
use crate::admin;
use crate::coordinator::{EngineMachine, RaftCoordinator};
use crate::replica::Replica;

/// The action by which the state of a cluster is moved.
pub struct MigrationActions<Rp> {
    coordinator: RaftCoordinator<Rp>,
    name: String,
    pool: ChannelPool,
}

impl<Rp> std::fmt::Debug for MigrationActions<Rp> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrationActions").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<Rp: Replica<EngineMachine>> MigrationActions<Rp> {
    /// Moves what `coordinator` has. `name` is that of the cluster, the same on every node;
    /// leaders elsewhere are called over `pool`.
    pub fn new(
        coordinator: RaftCoordinator<Rp>,
        name: impl Into<String>,
        pool: ChannelPool,
    ) -> Self {
        MigrationActions { coordinator, name: name.into(), pool }
    }

    async fn run(&self, step: Step) -> Result<Told, Error> {
        let mut endpoint = self.coordinator.endpoint(&*self.name);
        Ok(match step {
            Step::Name(_) => Told::Name(endpoint.name()),
            Step::Phase(_) => Told::Phase(endpoint.phase().await?.encode().into()),
            Step::Enter(phase) => {
                endpoint.enter(&Phase::decode(&phase)?).await?;
                Told::Done(true)
            }
            Step::Head(_) => Told::Head((&endpoint.head().await?).into()),
            Step::Read(after) => {
                let records = endpoint.read(after).await?;
                Told::Records(RecordsMessage::first_of(&records).0)
            }
            Step::Fill(message) => {
                let (migration, head) = message.read()?;
                Told::Last(endpoint.fill(&migration, &head).await?)
            }
            Step::Write(records) => {
                endpoint.write(&records.read()?).await?;
                Told::Done(true)
            }
            Step::Discard(_) => {
                endpoint.discard().await?;
                Told::Done(true)
            }
        })
    }
}

#[async_trait]
impl<Rp: Replica<EngineMachine>> ActionHandler for MigrationActions<Rp> {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![(ACTION, "One step of moving the whole state; of `sheaf coordinator migrate`")]
    }

    fn needs(&self, _: &str) -> Need {
        Need::One(admin::NAMESPACE, Right::Change)
    }

    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, sheaf_flight::Error> {
        let failed = |error: Error| sheaf_flight::Error::from_error(error);
        let step = wire::read_request(&body).map_err(failed)?;
        if context.header(FORWARDED).is_none()
            && let Some(leader) = self.coordinator.route.elsewhere()
        {
            return admin::ask_leader(&self.pool, Some(leader), action, &body).await;
        }
        let told = self.run(step).await.map_err(failed)?;
        Ok(vec![wire::reply(told)])
    }
}
