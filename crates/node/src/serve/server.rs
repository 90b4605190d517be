//! Modes `all`, `flight` and `coordinator`: what serves a port.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::Coordinator;
use sheaf_exchange::service::DataExchangeService;
use sheaf_flight::{LocalListener, Security, SegmentServer, ServerHandle};
use sheaf_proto::SharedTracer;
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_rpc::{CoordinatorService, Waits};
use sheaf_store::{FlightClient, PayloadOwner, SharedMemory, Store, Unowned, check_data_format};
use sheaf_telemetry::{AdminServer, Health, SharedRegistry, Status};
use sheaf_worker::{CoordinatorOwner, LocalPayloads, Worker};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::census::Census;
use super::error::Error;
use super::failures::report;
use super::info::InfoActions;
use super::parts::{Parts, open_coordinator, open_exchange, open_store};
use super::ports::Ports;
use super::protect;
use super::pulse::Pulse;
use super::reconcile::Reconciler;
use super::retire::retire;
use super::{clients, locations, raft, valkey, workers};
use crate::config::{Backend, Config, Mode};

/// A running server of mode `all`, `flight` or `coordinator`, in a program of
/// one's own or in a test.
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
    /// Of the socket in the file system.
    local_uri: Option<String>,
    /// Hands shared memory over, until it is dropped.
    segments: Option<SegmentServer>,
    admin: AdminServer,
    waits: Waits,
    workers: Option<Arc<Worker>>,
    parts: Parts,
    health: Health,
    clock: SharedClock,
    security: Security,
    grace: Duration,
    mode: Mode,
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
        Server::start_traced(config, clock, None).await
    }

    /// As [`Server::start`], with a span for each attempt at a batch of the workers inside.
    ///
    /// # Errors
    /// As there.
    pub async fn start_traced(
        config: Config,
        clock: SharedClock,
        tracer: Option<SharedTracer>,
    ) -> Result<Self, Error> {
        if config.mode() == Mode::Worker {
            return Err(Error::OtherMode { configured: "worker", instead: "RemoteWorkers" });
        }
        let ports = Ports::bind(&config)?;
        let security = protect::open(&config, &clock)?;
        let (registry, health) = (SharedRegistry::default(), Health::new());
        // From here on the admin port says that the server is starting.
        let admin = protect::serve_admin(ports.admin, &registry, &health, &security, &clock)?;
        let locations = locations::own(&config, ports.flight.local_addr());
        let mut parts = open(&config, &clock, locations).await?;
        if let Some(store) = &parts.store {
            parts.exchange = Some(open_exchange(&config, store, &clock, &registry).await?);
        }
        let segments = ports.segments.map(|listener| hand_over(&mut parts, listener, &clock));
        let segments = segments.transpose()?.flatten();
        let waits = Waits::new();
        let info = InfoActions::new(&config, admin.local_addr().to_string(), clock.clone());
        let router = parts.router(&config, &clock, &waits, &registry, info)?;
        let server = sheaf_flight::Server::new(router).security(security.clone());
        let mut server = with_services(server, &parts, &config, &waits);
        let local_uri = ports.local.as_ref().map(LocalListener::uri);
        if let Some(local) = ports.local {
            server = server.local(local);
        }
        let flight = server.serve(ports.flight).await?;
        admin.serve_actions(flight.web_actions());

        let stop = CancellationToken::new();
        if let (Some(raft), Backend::Raft(settings)) = (&parts.raft, config.backend()) {
            let founding = raft.clone().found((**settings).clone(), clock.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(founding));
        }
        let guard = stop.clone().drop_guard();
        in_background(&stop, &clock, &parts, &config);
        let census = match (&parts.valkey, config.mode()) {
            (Some(_), Mode::All | Mode::Coordinator) => Census::registered(&registry),
            _ => Census::default(),
        };
        watch_health(&health, &parts, &clock, &stop, census).await;
        let workers = match config.workers() {
            0 => None,
            _ => {
                let timed = (clock.clone(), tracer);
                Some(Arc::new(pool(&config, timed, &parts, &flight.uri(), &registry).await?))
            }
        };
        if let Some(pool) = &workers {
            let pool = Arc::clone(pool);
            health.register("workers", move || workers::standing(&pool));
        }
        health.ready();
        Ok(Server {
            flight,
            local_uri,
            segments,
            admin,
            waits,
            workers,
            parts,
            health,
            clock,
            security,
            grace: config.grace(),
            mode: config.mode(),
            stop: guard,
        })
    }

    /// Where Flight and the coordinator are served: `grpc://HOST:PORT`, under
    /// TLS `grpc+tls://HOST:PORT`.
    pub fn uri(&self) -> String {
        self.flight.uri()
    }

    /// The store inside; none in mode `coordinator`.
    pub fn store(&self) -> Option<&Store> {
        self.parts.store.as_ref()
    }

    /// The coordinator: inside, or in mode `flight` the one that is named, if any.
    pub fn coordinator(&self) -> Option<Arc<dyn Coordinator>> {
        self.parts.coordinator.clone()
    }

    /// `ready` and what is served, without a line feed.
    pub fn ready_line(&self) -> String {
        let (uri, scheme) = (self.flight.uri(), protect::scheme(&self.security));
        let served = match self.mode {
            Mode::Flight => format!("flight={uri}"),
            Mode::Coordinator => format!("coordinator={uri}"),
            Mode::All | Mode::Worker => format!("flight={uri} coordinator={uri}"),
        };
        let local = match &self.local_uri {
            Some(uri) => format!(" uds={uri}"),
            None => String::new(),
        };
        format!("ready {served}{local} admin={scheme}://{}", self.admin.local_addr())
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
        if let Some(raft) = &self.parts.raft {
            raft.hand_over(&self.clock).await;
        }
        let left = || self.grace.saturating_sub(self.clock.elapsed().saturating_sub(began));
        if let Some(exchange) = &self.parts.exchange {
            // New senders go elsewhere; those under way may end, also in calls that
            // come later. Some time is left for what others have called meanwhile.
            exchange.drain();
            tokio::select! {
                () = exchange.drained() => {}
                () = self.clock.sleep(left() / 4 * 3) => {}
            }
        }
        let drained = self.flight.drain(left()).await;
        for call in drained.cut {
            tracing::warn!(?call, "cut at the end of the grace period");
        }
        drop(self.stop);
        drop(self.segments);
        if let Some(store) = &self.parts.store {
            store.close().await;
        }
        if let Some(embedded) = &self.parts.embedded
            && let Err(error) = embedded.close().await
        {
            tracing::error!(%error, "the coordinator could not be closed");
        }
        if let Some(valkey) = &self.parts.valkey {
            valkey.close().await;
        }
        if let Some(raft) = &self.parts.raft {
            raft.close(&self.clock).await;
        }
        workers::close_admin(self.admin).await;
    }
}

/// The same with the gRPC services beside Flight.
fn with_services(
    mut server: sheaf_flight::Server,
    parts: &Parts,
    config: &Config,
    waits: &Waits,
) -> sheaf_flight::Server {
    if let Some(service) = parts.service(waits) {
        let service = match config.backend() {
            Backend::Remote(remote) => service.passing_on_to(remote.to_string()),
            Backend::Embedded | Backend::Raft(_) | Backend::Valkey(_) | Backend::Absent => service,
        };
        server = server
            .add_service_in(
                CoordinatorService::NAMESPACE,
                CoordinatorService::NEEDS,
                service.into_server(),
            )
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET);
    }
    match &parts.exchange {
        Some(exchange) => DataExchangeService::new(exchange.clone()).serve(server),
        None => server,
    }
}

/// Opens what the mode has.
async fn open(
    config: &Config,
    clock: &SharedClock,
    locations: Vec<String>,
) -> Result<Parts, Error> {
    // Also where no store is opened, which would see to it.
    check_data_format(config.data_dir())?;
    let parts = Parts { locations, ..Parts::default() };
    let owner = CoordinatorOwner::detached(clock.clone()).with_locations(parts.locations.clone());
    let owner = Arc::new(owner);
    match config.backend() {
        Backend::Embedded if config.mode() == Mode::Coordinator => {
            let embedded = Arc::new(open_coordinator(config, clock).await?);
            Ok(Parts { coordinator: Some(embedded.clone()), embedded: Some(embedded), ..parts })
        }
        Backend::Valkey(named) => {
            let valkey = valkey::open(config, named, clock).await?;
            let parts =
                Parts { coordinator: Some(valkey.clone()), valkey: Some(valkey.clone()), ..parts };
            if config.mode() == Mode::Coordinator {
                return Ok(parts);
            }
            owner.attach(valkey)?;
            let store = open_store(config, clock, owner.clone()).await?;
            Ok(Parts { store: Some(store), owner: Some(owner), ..parts })
        }
        Backend::Raft(settings) => {
            let raft = raft::open(config, settings, clock).await?;
            let coordinator: Arc<dyn Coordinator> = Arc::new(raft.coordinator.clone());
            let parts = Parts { coordinator: Some(coordinator.clone()), raft: Some(raft), ..parts };
            if config.mode() == Mode::Coordinator {
                return Ok(parts);
            }
            owner.attach(coordinator)?;
            let store = open_store(config, clock, owner.clone()).await?;
            Ok(Parts { store: Some(store), owner: Some(owner), ..parts })
        }
        Backend::Embedded => {
            let store = Some(open_store(config, clock, owner.clone()).await?);
            let embedded = Arc::new(open_coordinator(config, clock).await?);
            owner.attach(embedded.clone())?;
            let (coordinator, owner) = (Some(embedded.clone() as _), Some(owner));
            Ok(Parts { store, coordinator, embedded: Some(embedded), owner, ..parts })
        }
        Backend::Remote(remote) => {
            let coordinator: Arc<dyn Coordinator> =
                Arc::new(clients::coordinator(config, remote, clock)?);
            owner.attach(coordinator.clone())?;
            let store = Some(open_store(config, clock, owner.clone()).await?);
            let (coordinator, owner) = (Some(coordinator), Some(owner));
            Ok(Parts { store, coordinator, owner, ..parts })
        }
        Backend::Absent => {
            let owner: Arc<dyn PayloadOwner> = Arc::new(Unowned);
            let store = open_store(config, clock, owner).await?;
            let kept = store.stats().registered;
            if kept > 0 {
                tracing::warn!(
                    kept,
                    "payloads here belong to batches of a coordinator, and this server was started without one: they are kept; name it with --coordinator grpc://HOST:PORT or --valkey-addr"
                );
            }
            Ok(Parts { store: Some(store), ..parts })
        }
    }
}

/// Has payloads of the store offered as shared memory, where there is a store.
fn hand_over(
    parts: &mut Parts,
    listener: LocalListener,
    clock: &SharedClock,
) -> Result<Option<SegmentServer>, Error> {
    let Some(store) = &parts.store else { return Ok(None) };
    let shared = Arc::new(SharedMemory::new(store.clone(), SegmentServer::uri_of(&listener)));
    parts.shared = Some(shared.clone());
    Ok(Some(SegmentServer::start(listener, shared, clock.clone())?))
}

/// What goes on beside the calls, until `stop`.
fn in_background(stop: &CancellationToken, clock: &SharedClock, parts: &Parts, config: &Config) {
    let Some(coordinator) = &parts.coordinator else { return };
    if let (Some(store), Some(owner)) = (&parts.store, &parts.owner) {
        let reconnected = Arc::new(Notify::new());
        let (watched, kept) = (coordinator.clone(), store.clone());
        let retired = retire(watched, kept, clock.clone(), reconnected.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(retired));
        let reconciler = Reconciler {
            coordinator: coordinator.clone(),
            owner: owner.clone(),
            store: store.clone(),
            own: parts.locations.clone(),
            is_beside: parts.embedded.is_some(),
            is_watched: parts.is_shared(),
            clock: clock.clone(),
            ttl: config.ttl(),
            reconnected,
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(reconciler.run()));
    }
    // Elsewhere it is the coordinator's own log that tells.
    let is_own = parts.embedded.is_some() || parts.raft.is_some();
    if is_own || (parts.valkey.is_some() && config.mode() != Mode::Flight) {
        let leads = parts.raft.clone();
        let speaks = move || leads.as_ref().is_none_or(raft::Replicated::leads);
        let reported = report(coordinator.clone(), clock.clone(), speaks);
        tokio::spawn(stop.clone().run_until_cancelled_owned(reported));
    }
}

/// Says what becomes of the parts on the health page. A coordinator elsewhere
/// that does not answer is waited for; it does not hold up the start.
async fn watch_health(
    health: &Health,
    parts: &Parts,
    clock: &SharedClock,
    stop: &CancellationToken,
    census: Census,
) {
    if let Some(raft) = parts.raft.clone() {
        health.register("coordinator", move || raft.standing());
    } else if let Some(coordinator) = parts.coordinator.clone() {
        let is_open = parts.embedded.is_some() || parts.valkey.is_some();
        let pulse = match is_open {
            true => Pulse::start(coordinator, clock.clone(), stop.clone(), census).await,
            false => Pulse::follow(coordinator, clock.clone(), stop.clone()),
        };
        health.register("coordinator", move || pulse.status());
    }
    if let Some(store) = parts.store.clone() {
        health.register("store", move || describe(&store));
    }
}

/// The workers inside.
async fn pool(
    config: &Config,
    (clock, tracer): (SharedClock, Option<SharedTracer>),
    parts: &Parts,
    uri: &str,
    registry: &SharedRegistry,
) -> Result<Worker, Error> {
    let (Some(store), Some(coordinator)) = (&parts.store, &parts.coordinator) else {
        return Err(Error::OtherMode { configured: "flight", instead: "RemoteWorkers" });
    };
    // A batch may be registered with the address of another server.
    let channels = clients::payload_pool(config, &clock);
    let elsewhere = FlightClient::with_pool(channels, uri, RetryPolicy::TRANSFER, clock.clone())?;
    let payloads = LocalPayloads::new(store.clone())
        .with_own(parts.locations.clone())
        .with_shared(parts.is_shared())
        .with_elsewhere(elsewhere);
    let locations = parts.locations.clone();
    let mut exchange = clients::exchange(config, &clock, registry);
    if let Some(here) = &parts.exchange {
        let names = locations.iter().map(String::as_str).chain([uri]);
        exchange = exchange.with_local_names(names, here.clone());
    }
    let (coordinator, payloads) = (coordinator.clone(), Arc::new(payloads));
    let timed = (clock, tracer);
    workers::start(config, coordinator, payloads, exchange, locations, registry, timed).await
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
