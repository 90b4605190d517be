//! Mode `all`: store, coordinator and workers in one process.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sheaf_coordinator::embedded::{self, Embedded};
use sheaf_coordinator::{Coordinator, engine};
use sheaf_flight::{FlightRouter, Limits, Security, ServerHandle};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{CoordinatorActions, CoordinatorService, Waits};
use sheaf_store::{Budget, Durability, FlightClient, Options, Store, StoreActions, StoreHandler};
use sheaf_telemetry::{AdminServer, Health, SharedRegistry, Status};
use sheaf_worker::{CoordinatorOwner, LocalPayloads, Worker};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::directory::StoreDirectory;
use super::error::Error;
use super::failures::report;
use super::ports::Ports;
use super::protect;
use super::pulse::Pulse;
use super::reconcile::reconcile;
use super::retire::retire;
use super::workers;
use crate::config::{Backend, Config, HostPort};

/// A running server: mode `all`, in a program of one's own or in a test.
///
/// Nothing of the process is touched: no signals, no standard output, no
/// global logger; several servers may run in one process, each on a data
/// directory of its own. [`serve`](super::serve) is the same with signals.
/// A server that is dropped cuts the calls under way and stops in the
/// background: use [`Server::drain`].
///
/// ```
/// use std::sync::Arc;
///
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_node::config::{Machine, Origin, RawConfig};
/// use sheaf_node::serve::Server;
/// use sheaf_retry::SystemClock;
/// use sheaf_store::{ClientPut, FlightClient};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// # let directory = tempfile::tempdir()?;
/// # let data_dir = directory.path().to_str().expect("a path of UTF-8");
/// let mut raw = RawConfig::default();
/// raw.set("flight-addr", "127.0.0.1:0", Origin::Flag); // a free port
/// raw.set("data-dir", data_dir, Origin::Flag);
/// let config = raw.validate(&Machine::this()).expect("valid settings");
/// let clock = SystemClock::shared();
/// let server = Server::start(config, clock.clone()).await?;
///
/// let client = FlightClient::connect(&server.uri(), clock)?;
/// let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
/// let rows = RecordBatch::try_from_iter([("n", column)])?;
/// let put = client.put(None, rows.schema(), &[rows], ClientPut::REGISTERED).await?;
/// assert_eq!(put.rows, 3);
/// server.drain().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    flight: ServerHandle,
    admin: AdminServer,
    waits: Waits,
    workers: Option<Arc<Worker>>,
    store: Store,
    coordinator: Arc<Embedded>,
    health: Health,
    clock: SharedClock,
    security: Security,
    grace: Duration,
    /// Ends what runs in the background.
    stop: DropGuard,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("uri", &self.uri()).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the ports, opens everything, and answers calls when it returns.
    /// Reading the state of the data directory takes seconds where there is
    /// much of it. A call that is dropped leaves nothing running.
    ///
    /// # Errors
    /// A port in use, by the name of its setting; what cannot be opened, by
    /// its name; [`Error::OtherMode`] for mode `worker`, which is
    /// [`RemoteWorkers`](super::RemoteWorkers).
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, Error> {
        if let Backend::Remote(_) = config.backend() {
            return Err(Error::OtherMode { configured: "worker", instead: "RemoteWorkers" });
        }
        let ports = Ports::bind(&config)?;
        let security = protect::open(&config, &clock)?;
        let (registry, health) = (SharedRegistry::default(), Health::new());
        // From here on the admin port says that the server is starting.
        let admin = protect::serve_admin(ports.admin, &registry, &health, &security)?;
        let locations = own_locations(&config);
        let owner = CoordinatorOwner::detached(clock.clone()).with_locations(locations.clone());
        let owner = Arc::new(owner);
        let store = open_store(&config, &clock, owner.clone()).await?;
        let embedded = Arc::new(open_coordinator(&config, &clock).await?);
        let coordinator: Arc<dyn Coordinator> = embedded.clone();
        owner.attach(coordinator.clone())?;

        let waits = Waits::new();
        let router = route(&config, &clock, &store, &embedded, &locations, &waits, &registry)?;
        let directory = StoreDirectory::new(store.clone()).with_locations(locations.clone());
        let service = CoordinatorService::new(coordinator.clone())
            .with_directory(Arc::new(directory))
            .with_waits(waits.clone());
        let flight = sheaf_flight::Server::new(router)
            .add_service(service.into_server())
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
            .security(security.clone())
            .serve(ports.flight)
            .await?;

        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        in_background(&stop, &clock, &coordinator, &store, &locations);
        let pulse = Pulse::start(coordinator.clone(), clock.clone(), stop.clone()).await;
        health.register("coordinator", move || pulse.status());
        let watched = store.clone();
        health.register("store", move || describe(&watched));
        let workers = match config.workers() {
            0 => None,
            _ => {
                // A batch may be registered with the address of another server.
                let (uri, caller) = (flight.uri(), protect::client(&config));
                let elsewhere = FlightClient::connect_with(&uri, caller, clock.clone())?;
                let payloads = LocalPayloads::new(store.clone())
                    .with_own(locations.clone())
                    .with_elsewhere(elsewhere);
                let payloads = Arc::new(payloads);
                let clock = clock.clone();
                let pool =
                    workers::start(&config, coordinator, payloads, locations, &registry, clock);
                Some(Arc::new(pool.await?))
            }
        };
        if let Some(pool) = &workers {
            let pool = Arc::clone(pool);
            health.register("workers", move || workers::standing(&pool));
        }
        health.ready();
        Ok(Server {
            flight,
            admin,
            waits,
            workers,
            store,
            coordinator: embedded,
            health,
            clock,
            security,
            grace: config.grace(),
            stop: guard,
        })
    }

    /// Where Flight and the coordinator are served: `grpc://HOST:PORT`, under
    /// TLS `grpc+tls://HOST:PORT`.
    pub fn uri(&self) -> String {
        self.flight.uri()
    }

    /// The store inside.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The coordinator inside.
    pub fn coordinator(&self) -> Arc<dyn Coordinator> {
        self.coordinator.clone()
    }

    /// `ready` and what is served, without a line feed.
    pub fn ready_line(&self) -> String {
        let flight = self.flight.uri();
        format!(
            "ready flight={flight} coordinator={flight} admin={}://{}",
            protect::scheme(&self.security),
            self.admin.local_addr()
        )
    }

    /// Ends in good order: waiting claims first, then the workers inside, while
    /// those outside can still settle; then streams; then the parts. Takes the
    /// grace period of the configuration at most, and a few seconds to close.
    pub async fn drain(self) {
        let began = self.clock.elapsed();
        self.health.draining();
        self.waits.end();
        if let Some(workers) = &self.workers {
            let summary = workers.shutdown().await;
            tracing::info!(?summary, "workers stopped");
        }
        let left = self.grace.saturating_sub(self.clock.elapsed().saturating_sub(began));
        let drained = self.flight.drain(left).await;
        for call in drained.cut {
            tracing::warn!(?call, "cut at the end of the grace period");
        }
        drop(self.stop);
        self.store.close().await;
        if let Err(error) = self.coordinator.close().await {
            tracing::error!(%error, "the coordinator could not be closed");
        }
        workers::close_admin(self.admin).await;
    }
}

/// Where others reach the store.
fn own_locations(config: &Config) -> Vec<String> {
    config.advertise_addr().map(HostPort::uri).into_iter().collect()
}

/// What the port answers: payloads, and the actions of store and coordinator.
fn route(
    config: &Config,
    clock: &SharedClock,
    store: &Store,
    coordinator: &Arc<Embedded>,
    locations: &[String],
    waits: &Waits,
    registry: &SharedRegistry,
) -> Result<FlightRouter, Error> {
    let directory = StoreDirectory::new(store.clone()).with_locations(locations.to_vec());
    let actions = CoordinatorActions::new(coordinator.clone(), clock.clone())
        .with_directory(Arc::new(directory))
        .with_default_lease(config.lease())
        .with_waits(waits.clone());
    let handler = StoreHandler::new(store.clone(), config.durability());
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    store.metrics().register(&mut registry);
    coordinator.register_metrics(&mut registry);
    let router = FlightRouter::builder()
        .handler("batches", Arc::new(handler))
        .actions(Arc::new(StoreActions::new(store.clone())))
        .actions(Arc::new(actions))
        .limits(Limits::for_memory(config.memory_limit()))
        .clock(clock.clone())
        .metrics(&mut registry)
        .build()?;
    Ok(router)
}

/// What goes on beside the calls, until `stop`.
fn in_background(
    stop: &CancellationToken,
    clock: &SharedClock,
    coordinator: &Arc<dyn Coordinator>,
    store: &Store,
    locations: &[String],
) {
    let retired = retire(coordinator.clone(), store.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(retired));
    let reported = report(coordinator.clone(), clock.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(reported));
    let compared = reconcile(coordinator.clone(), store.clone(), locations.to_vec());
    tokio::spawn(stop.clone().run_until_cancelled_owned(compared));
}

async fn open_store(
    config: &Config,
    clock: &SharedClock,
    owner: Arc<CoordinatorOwner>,
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
            max_live_bytes: config.max_live_bytes(),
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
