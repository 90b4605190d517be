//! The parts of a server, each opened or put together.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{Coordinator, engine};
use sheaf_exchange::shuffle::{Exchange, ReceiverMetrics, ReceiverOptions, ShuffleHandler};
use sheaf_flight::{ActionHandler, FlightRouter, Limits};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{CoordinatorActions, CoordinatorService, NoCoordinator, Waits};
use sheaf_store::{
    Budget, Durability, Options, PayloadOwner, SharedMemory, Store, StoreActions, StoreHandler,
};
use sheaf_telemetry::SharedRegistry;
use sheaf_valkey::ValkeyCoordinator;
use sheaf_worker::CoordinatorOwner;
use tokio::sync::Semaphore;

use super::backup::{Backup, remove_leftover};
use super::clients;
use super::directory::StoreDirectory;
use super::elsewhere::Elsewhere;
use super::error::Error;
use super::info::InfoActions;
use super::raft::Replicated;
use crate::backup::wire::NAMESPACE;
use crate::config::{Backend, Config, HostPort};

/// What one port serves.
#[derive(Clone, Default)]
pub(super) struct Parts {
    pub(super) store: Option<Store>,
    pub(super) coordinator: Option<Arc<dyn Coordinator>>,
    /// The same coordinator, where it is inside.
    pub(super) embedded: Option<Arc<Embedded>>,
    /// The same coordinator, where it is on Valkey.
    pub(super) valkey: Option<Arc<ValkeyCoordinator>>,
    /// The same coordinator, where this process replicates it with others.
    pub(super) raft: Option<Replicated>,
    /// Asks that coordinator on behalf of the store, where both are there.
    pub(super) owner: Option<Arc<CoordinatorOwner>>,
    /// Partitions of other workers, where there is a store: they count in its memory.
    pub(super) exchange: Option<Exchange>,
    /// Offers payloads of the store to programs of this machine.
    pub(super) shared: Option<Arc<SharedMemory>>,
    /// Under which addresses payloads of this process are registered.
    pub(super) locations: Vec<String>,
}

impl Parts {
    /// What the port answers: payloads, and the actions of store and coordinator.
    pub(super) fn router(
        &self,
        config: &Config,
        clock: &SharedClock,
        waits: &Waits,
        registry: &SharedRegistry,
        info: InfoActions,
    ) -> Result<FlightRouter, Error> {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut builder = FlightRouter::builder()
            .actions(self.actions(config, clock, waits))
            .actions(Arc::new(info))
            .limits(Limits::for_memory(config.memory_limit()))
            .clock(clock.clone())
            .metrics(&mut registry);
        builder = builder.handler(NAMESPACE, Arc::new(self.backup(config, clock)));
        let local = self.store.as_ref().map(|store| {
            store.metrics().register(&mut registry);
            let handler = StoreHandler::new(store.clone(), config.durability());
            match &self.shared {
                Some(shared) => handler.with_shared_memory(shared.clone()),
                None => handler,
            }
        });
        if let Some(store) = &self.store {
            builder = builder.actions(Arc::new(StoreActions::new(store.clone())));
        }
        if let Some(exchange) = &self.exchange {
            builder = ShuffleHandler::new(exchange.clone()).serve(builder);
        }
        builder = builder.memory(match (&self.exchange, &self.store) {
            // Room in the one budget is made by both.
            (Some(exchange), _) => exchange.memory(),
            (None, Some(store)) => store.memory(),
            (None, None) => Budget::new(config.memory_limit()),
        });
        if let Some(embedded) = &self.embedded {
            embedded.register_metrics(&mut registry);
        }
        if let Some(valkey) = &self.valkey {
            valkey.register_metrics(&mut registry);
        }
        if let Some(raft) = &self.raft {
            builder = raft.serve(builder, &mut registry)?;
        }
        let builder = match (&self.coordinator, local) {
            (None, None) => builder,
            (None, Some(local)) => builder.handler("batches", Arc::new(local)),
            (Some(coordinator), local) => {
                let pool = clients::payload_pool(config, clock);
                let home = match config.backend() {
                    Backend::Remote(remote) => remote.only().map(HostPort::uri),
                    Backend::Embedded | Backend::Raft(_) | Backend::Valkey(_) | Backend::Absent => {
                        None
                    }
                };
                let anywhere =
                    Elsewhere::new(local, coordinator.clone(), pool, self.locations.clone())
                        .with_home(home)
                        .shared(self.is_shared());
                builder.handler("batches", Arc::new(anywhere))
            }
        };
        Ok(builder.build()?)
    }

    /// Whether other processes have stores beside the same coordinator.
    pub(super) fn is_shared(&self) -> bool {
        self.valkey.is_some() || self.raft.is_some()
    }

    fn backup(&self, config: &Config, clock: &SharedClock) -> Backup {
        Backup {
            store: self.store.clone(),
            embedded: self.embedded.clone(),
            locations: self.locations.clone(),
            data_dir: config.data_dir().to_path_buf(),
            mode: config.mode(),
            coordinator: match config.backend() {
                Backend::Valkey(valkey) => valkey.to_string(),
                Backend::Raft(raft) => raft.to_string(),
                Backend::Embedded | Backend::Remote(_) | Backend::Absent => String::new(),
            },
            clock: clock.clone(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn actions(
        &self,
        config: &Config,
        clock: &SharedClock,
        waits: &Waits,
    ) -> Arc<dyn ActionHandler> {
        let Some(coordinator) = &self.coordinator else { return Arc::new(NoCoordinator) };
        let mut actions = CoordinatorActions::new(coordinator.clone(), clock.clone())
            .with_default_lease(config.lease())
            .with_waits(waits.clone());
        actions = match self.directory() {
            Some(directory) => actions.with_directory(Arc::new(directory)),
            None => actions.without_store(),
        };
        Arc::new(actions)
    }

    /// The coordinator's gRPC service, where there is one.
    pub(super) fn service(&self, waits: &Waits) -> Option<CoordinatorService> {
        let coordinator = self.coordinator.clone()?;
        let mut service = CoordinatorService::new(coordinator).with_waits(waits.clone());
        if let Some(raft) = &self.raft {
            service = service.with_last_hop(Arc::new(raft.coordinator.last_hop()));
        }
        Some(match self.directory() {
            Some(directory) => service.with_directory(Arc::new(directory)),
            None => service.without_store(),
        })
    }

    fn directory(&self) -> Option<StoreDirectory> {
        let store = self.store.clone()?;
        let directory = StoreDirectory::new(store).with_locations(self.locations.clone());
        Some(if self.owner.is_some() { directory.keeping_registered() } else { directory })
    }
}

/// Opens the store of the data directory.
pub(super) async fn open_store(
    config: &Config,
    clock: &SharedClock,
    owner: Arc<dyn PayloadOwner>,
) -> Result<Store, Error> {
    let mut options = Options::new(clock.clone())
        .with_data_dir(config.data_dir())
        .with_owner(owner)
        .with_budget(Budget::new(config.memory_limit()));
    options.ttl = config.ttl();
    options.compression = config.compression();
    Ok(Store::open(options).await?)
}

/// Opens what other workers' partitions are kept in: in the memory of the store, and
/// below the data directory where that gets short.
pub(super) async fn open_exchange(
    config: &Config,
    store: &Store,
    clock: &SharedClock,
    registry: &SharedRegistry,
) -> Result<Exchange, Error> {
    let limit = config.shuffle_disk().bytes_at(config.data_dir());
    let metrics = ReceiverMetrics::default();
    metrics.register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    let options = ReceiverOptions::new(store.budget(), clock.clone())
        .with_spill(config.data_dir().join("shuffle"), limit)
        .with_idle(config.shuffle_idle())
        .with_beside(store.memory())
        .with_metrics(metrics);
    Exchange::open(options).await.map_err(Error::Exchange)
}

/// Reads the whole state, which takes seconds where there is much of it.
pub(super) async fn open_coordinator(
    config: &Config,
    clock: &SharedClock,
) -> Result<Embedded, Error> {
    let failed = |source| Error::Coordinator { data_dir: shown(config.data_dir()), source };
    std::fs::create_dir_all(config.data_dir()).map_err(|source| {
        failed(sheaf_coordinator::Error::Backend {
            operation: "create its directory".to_owned(),
            code: sheaf_retry::Retryable::code(&source),
            source: Some(Box::new(source)),
        })
    })?;
    let path = config.data_dir().join("coordinator.redb");
    let settings = embedded::Config {
        durability: match config.durability() {
            Durability::Disk => embedded::Durability::Disk,
            Durability::Memory => embedded::Durability::Memory,
        },
        engine: engine::Config {
            retry: RetryPolicy { max_retries: config.max_retries(), ..RetryPolicy::QUEUE },
            max_live_bytes: config.max_live_bytes(),
            ..engine::Config::default()
        },
        ..embedded::Config::disk(path)
    };
    let clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(settings, clock)).await;
    let opened = opened.map_err(|_| Error::Lost("the start of the coordinator"))?;
    let opened = opened.map_err(failed)?;
    remove_leftover(config.data_dir());
    Ok(opened)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
