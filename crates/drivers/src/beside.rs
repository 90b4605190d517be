//! A driver that starts no store, and another one beside it that does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::planned::is_store;
use crate::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine};

/// Runs components with one driver, and the store of durable edges with another one: a store
/// has a folder that outlives runs, which a process of this machine has at hand.
pub struct StoreBeside {
    components: Arc<dyn Driver>,
    store: Arc<dyn Driver>,
}

impl std::fmt::Debug for StoreBeside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (components, store) = (self.components.name(), self.store.name());
        f.debug_struct("StoreBeside")
            .field("components", &components)
            .field("store", &store)
            .finish()
    }
}

impl StoreBeside {
    /// The driver of components has to let them through to a store of this machine.
    pub fn new(components: Arc<dyn Driver>, store: Arc<dyn Driver>) -> Self {
        StoreBeside { components, store }
    }

    fn of(&self, place: &str) -> &dyn Driver {
        match is_store(place) {
            true => &*self.store,
            false => &*self.components,
        }
    }
}

#[async_trait]
impl Driver for StoreBeside {
    fn name(&self) -> &'static str {
        self.components.name()
    }

    fn starts_stores(&self) -> bool {
        self.store.starts_stores()
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        self.of(&launch.id.place).start(launch).await
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        self.of(&id.place).stop(id, drain).await
    }

    async fn ended(&self) -> Ended {
        tokio::select! {
            ended = self.components.ended() => ended,
            ended = self.store.ended() => ended,
        }
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        let mut running = self.components.running(pipeline).await?;
        for id in self.store.running(pipeline).await? {
            if is_store(&id.place) {
                running.push(id);
                continue;
            }
            // An earlier control plane had another driver, over the same folder.
            tracing::warn!(component = id.place, "it runs beside containers: it is ended");
            self.store.stop(&id, Duration::ZERO).await?;
        }
        Ok(running)
    }

    async fn disturb(&self, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
        self.of(&id.place).disturb(id, how).await
    }

    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        self.components.remove(pipeline, state).await?;
        self.store.remove(pipeline, state).await
    }

    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        let (store, components): (Vec<String>, Vec<String>) =
            places.iter().cloned().partition(|place| is_store(place));
        if store.is_empty() {
            return self.components.logs(&components, tail, follow).await;
        }
        let of_store = self.store.logs(&store, tail, follow).await?;
        if components.is_empty() {
            return Ok(of_store);
        }
        let of_components = self.components.logs(&components, tail, follow).await?;
        Ok(futures::stream::select(of_store, of_components).boxed())
    }
}
