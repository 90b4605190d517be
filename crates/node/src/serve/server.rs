//! Mode `all`: store, coordinator and workers in one process.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{Coordinator, engine};
use sheaf_flight::{FlightRouter, Limits, ServerHandle};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{CoordinatorActions, CoordinatorService, Waits};
use sheaf_store::{Budget, Durability, Options, Store, StoreActions, StoreHandler};
use sheaf_telemetry::{AdminServer, Health, SharedRegistry, Status};
use sheaf_worker::{LocalPayloads, Worker};
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::error::Error;
use super::owner::Owner;
use super::ports::Ports;
use super::pulse::Pulse;
use super::reconcile::reconcile;
use super::retire::retire;
use super::workers;
use crate::config::Config;

/// A running server.
pub struct Server {
    flight: ServerHandle,
    admin: AdminServer,
    waits: Waits,
    workers: Option<Arc<Worker>>,
    store: Store,
    coordinator: Arc<Embedded>,
    health: Health,
    clock: SharedClock,
    stop: CancellationToken,
}

impl Server {
    /// Opens everything and serves on ports that are bound already.
    ///
    /// # Errors
    /// What cannot be opened, by its name.
    pub(super) async fn start(
        config: Config,
        ports: Ports,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let (registry, health) = (SharedRegistry::default(), Health::new());
        // From here on the admin port says that the server is starting.
        let admin = AdminServer::start(ports.admin, registry.clone(), health.clone())?;
        let locations: Vec<String> = config
            .advertise_addr()
            .map(|address| format!("grpc://{address}"))
            .into_iter()
            .collect();
        let owner = Arc::new(Owner::new(clock.clone(), locations.clone()));
        let store = open_store(&config, &clock, owner.clone()).await?;
        let embedded = Arc::new(open_coordinator(&config, &clock).await?);
        let coordinator: Arc<dyn Coordinator> = embedded.clone();
        owner.attach(coordinator.clone());

        let waits = Waits::new();
        let directory = Arc::new(Directory::new(store.clone(), locations.clone()));
        let actions = CoordinatorActions::new(coordinator.clone(), clock.clone())
            .with_directory(directory)
            .with_default_lease(config.lease())
            .with_waits(waits.clone());
        let handler = StoreHandler::new(store.clone(), config.durability());
        let router = {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            store.metrics().register(&mut registry);
            embedded.register_metrics(&mut registry);
            FlightRouter::builder()
                .handler("batches", Arc::new(handler))
                .actions(Arc::new(StoreActions::new(store.clone())))
                .actions(Arc::new(actions))
                .limits(Limits::for_memory(config.memory_limit()))
                .clock(clock.clone())
                .metrics(&mut registry)
                .build()?
        };
        let service = CoordinatorService::new(coordinator.clone()).with_waits(waits.clone());
        let flight = sheaf_flight::Server::new(router)
            .add_service(service.into_server())
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
            .serve(ports.flight)
            .await?;

        let stop = CancellationToken::new();
        let background = stop.clone();
        tokio::spawn(
            background.run_until_cancelled_owned(retire(coordinator.clone(), store.clone())),
        );
        let background = stop.clone();
        tokio::spawn(
            background.run_until_cancelled_owned(reconcile(coordinator.clone(), store.clone())),
        );
        let pulse = Pulse::start(coordinator.clone(), clock.clone(), stop.clone()).await;
        health.register("coordinator", move || pulse.status());
        let watched = store.clone();
        health.register("store", move || describe(&watched));
        let workers = match config.workers() {
            0 => None,
            _ => {
                let payloads = Arc::new(LocalPayloads::new(Arc::new(store.clone())));
                let clock = clock.clone();
                let pool =
                    workers::start(&config, coordinator, payloads, locations, &registry, clock);
                Some(Arc::new(pool.await?))
            }
        };
        if let Some(pool) = &workers {
            let pool = Arc::clone(pool);
            health.register("workers", move || Status::up(format!("{} running", pool.running())));
        }
        health.ready();
        let coordinator = embedded;
        Ok(Server { flight, admin, waits, workers, store, coordinator, health, clock, stop })
    }

    /// `ready` and what is served.
    pub(super) fn ready_line(&self) -> String {
        let flight = self.flight.uri();
        format!(
            "ready flight={flight} coordinator={flight} admin=http://{}",
            self.admin.local_addr()
        )
    }

    /// Ends in good order: waiting claims first, then the workers inside, while
    /// those outside can still settle; then streams; then the parts.
    pub(super) async fn drain(self, grace: Duration) {
        let began = self.clock.elapsed();
        self.health.draining();
        self.waits.end();
        if let Some(workers) = &self.workers {
            let summary = workers.shutdown().await;
            tracing::info!(?summary, "workers stopped");
        }
        let left = grace.saturating_sub(self.clock.elapsed().saturating_sub(began));
        let drained = self.flight.drain(left).await;
        for call in drained.cut {
            tracing::warn!(?call, "cut at the end of the grace period");
        }
        self.stop.cancel();
        self.store.close().await;
        if let Err(error) = self.coordinator.close().await {
            tracing::error!(%error, "the coordinator could not be closed");
        }
        workers::close_admin(self.admin).await;
    }
}

async fn open_store(
    config: &Config,
    clock: &SharedClock,
    owner: Arc<Owner>,
) -> Result<Store, Error> {
    let mut options = Options::new(clock.clone())
        .with_data_dir(config.data_dir())
        .with_owner(owner)
        .with_budget(Budget::new(config.memory_limit()));
    options.ttl = config.ttl();
    Ok(Store::open(options).await?)
}

/// Reads the whole state, which takes seconds where there is much of it.
async fn open_coordinator(config: &Config, clock: &SharedClock) -> Result<Embedded, Error> {
    let path = config.data_dir().join("coordinator.redb");
    let settings = embedded::Config {
        durability: match config.durability() {
            Durability::Disk => embedded::Durability::Disk,
            Durability::Memory => embedded::Durability::Memory,
        },
        engine: engine::Config {
            retry: RetryPolicy { max_retries: config.max_retries(), ..RetryPolicy::QUEUE },
            ..engine::Config::default()
        },
        ..embedded::Config::disk(path)
    };
    let clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(settings, clock)).await;
    let failed = |source| Error::Coordinator { data_dir: shown(config.data_dir()), source };
    opened.map_err(|_| Error::Lost("the start of the coordinator"))?.map_err(failed)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn describe(store: &Store) -> Status {
    let stats = store.stats();
    let bytes = sheaf_terminal::HumanBytes;
    Status::up(format!(
        "{} payloads, {} of {} memory, {} on disk",
        sheaf_terminal::count(stats.payloads),
        bytes(stats.memory_bytes),
        bytes(stats.memory_limit_bytes),
        bytes(stats.disk_bytes),
    ))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
