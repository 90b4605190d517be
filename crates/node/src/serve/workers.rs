//! The worker pools: inside a server, or in a process of their own.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sheaf_connectors::ExecCommand;
use sheaf_coordinator::Coordinator;
use sheaf_exchange::shuffle::ExchangeClient;
use sheaf_flight::Security;
use sheaf_proto::{BatchId, SharedTracer};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_store::FlightClient;
use sheaf_telemetry::{AdminServer, Health, SharedRegistry, Status};
use sheaf_valkey::ValkeyCoordinator;
use sheaf_worker::{
    Exec, Metrics, Parts, Payloads, Processor, RemotePayloads, Shuffle, Verify, Worker,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::Error;
use super::ports::Ports;
use super::protect;
use super::pulse::Pulse;
use super::{clients, locations, valkey};
use crate::config::{Backend, Config, Mode, ProcessorChoice};

/// How long the admin port may take to answer what it was asked.
pub(super) const ADMIN_CLOSE: Duration = Duration::from_secs(1);

/// Starts the pool that the configuration asks for.
pub(super) async fn start(
    config: &Config,
    coordinator: Arc<dyn Coordinator>,
    payloads: Arc<dyn Payloads>,
    exchange: ExchangeClient,
    locations: Vec<String>,
    registry: &SharedRegistry,
    (clock, tracer): (SharedClock, Option<SharedTracer>),
) -> Result<Worker, Error> {
    let spec = config.sink();
    let sink = spec
        .open(clock.clone())
        .await
        .map_err(|source| Error::Sink { sink: spec.to_string(), source })?;
    if let Some(sink) = &sink {
        // What an attempt that died left behind; a failure of that is no reason not to work.
        match sink.recover().await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed what unfinished attempts left"),
            Err(error) => tracing::warn!(%error, "the sink could not be cleaned up"),
        }
    }
    let processor: Arc<dyn Processor> = match config.processor() {
        ProcessorChoice::Verify => Arc::new(Verify),
        ProcessorChoice::Exec(command) => {
            Arc::new(Exec::new(ExecCommand::new(command, clock.clone())))
        }
    };
    // Tasks of stages go between partitions, all other work as it always did.
    let processor = Arc::new(Shuffle::new(exchange, processor));
    let metrics = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        Metrics::register(&mut registry)
    };
    let mut parts = Parts::new(coordinator, payloads, processor, clock.clone())
        .with_metrics(metrics)
        .traced_by(tracer);
    parts.sink = sink;
    let mut pool = sheaf_worker::Config::new(name(&clock))
        .with_worker_count(config.workers())
        .with_poll_interval(config.poll_interval())
        .with_lease(config.lease());
    pool.queues = config.queues().to_vec();
    pool.grace = config.grace();
    pool.locations = locations;
    tracing::info!(name = pool.name, workers = config.workers(), ?parts, "workers start");
    let worker = Worker::new(pool, parts)?;
    worker.start()?;
    Ok(worker)
}

/// Unique per process start, and telling the process to people.
fn name(clock: &SharedClock) -> String {
    let unique = BatchId::generate(clock.now().as_millis());
    format!("{}-{unique}", std::process::id())
}

/// What the health says of a pool.
pub(super) fn standing(pool: &Worker) -> Status {
    if pool.is_alive() {
        Status::up(format!("{} running", pool.running()))
    } else {
        Status::down("the pool has ended; restart the process, and report it with the log")
    }
}

/// Mode `worker`: a pool against a server elsewhere. Like
/// [`Server`](super::Server) it touches nothing of the process.
pub struct RemoteWorkers {
    worker: Arc<Worker>,
    valkey: Option<Arc<ValkeyCoordinator>>,
    admin: AdminServer,
    health: Health,
    security: Security,
    stop: DropGuard,
}

impl fmt::Debug for RemoteWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWorkers").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl RemoteWorkers {
    /// Starts to work; the server need not be there yet, a Valkey must be.
    ///
    /// # Errors
    /// Where an address, the sink or the admin port cannot be used;
    /// [`Error::OtherMode`] for mode `all`, which is [`Server`](super::Server).
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, Error> {
        RemoteWorkers::start_traced(config, clock, None).await
    }

    /// As [`RemoteWorkers::start`], with a span for each attempt at a batch.
    ///
    /// # Errors
    /// As there.
    pub async fn start_traced(
        config: Config,
        clock: SharedClock,
        tracer: Option<SharedTracer>,
    ) -> Result<Self, Error> {
        if config.mode() != Mode::Worker {
            return Err(Error::OtherMode { configured: config.mode().as_str(), instead: "Server" });
        }
        let admin = Ports::bind_admin(&config)?;
        let security = protect::open(&config, &clock)?;
        let (registry, health) = (SharedRegistry::default(), Health::new());
        let (coordinator, valkey) = coordinator(&config, &clock, &registry).await?;
        let payloads = Arc::new(payloads(&config, &clock)?);
        let exchange = clients::exchange(&config, &clock, &registry);
        let dialled = config.flight_addr().clone();
        let near = tokio::task::spawn_blocking(move || locations::near(&dialled)).await;
        let near = near.map_err(|_| Error::Lost("the look-up of the Flight server"))?;
        let timed = (clock.clone(), tracer);
        let worker =
            start(&config, coordinator.clone(), payloads, exchange, near, &registry, timed).await?;
        let worker = Arc::new(worker);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let admin = protect::serve_admin(admin, &registry, &health, &security, &clock)?;
        // An unreachable server is waited for: it shows in the health, not here.
        let pulse = Pulse::follow(coordinator, clock.clone(), stop.clone());
        health.register("coordinator", move || pulse.status());
        let pool = Arc::clone(&worker);
        health.register("workers", move || standing(&pool));
        health.ready();
        Ok(RemoteWorkers { worker, valkey, admin, health, security, stop: guard })
    }

    /// `ready` and what is served, without a line feed.
    pub fn ready_line(&self) -> String {
        let scheme = protect::scheme(&self.security);
        format!("ready admin={scheme}://{}", self.admin.local_addr())
    }

    /// Settles or gives back what is under way, within the grace period.
    pub async fn drain(self) {
        self.health.draining();
        let summary = self.worker.shutdown().await;
        tracing::info!(?summary, "workers stopped");
        drop(self.stop);
        if let Some(valkey) = &self.valkey {
            valkey.close().await;
        }
        close_admin(self.admin).await;
    }
}

type Reached = (Arc<dyn Coordinator>, Option<Arc<ValkeyCoordinator>>);

/// Who gives the work: a server, which need not be there yet, or Valkey itself.
async fn coordinator(
    config: &Config,
    clock: &SharedClock,
    registry: &SharedRegistry,
) -> Result<Reached, Error> {
    match config.backend() {
        Backend::Remote(remote) => {
            Ok((Arc::new(clients::coordinator(config, remote, clock)?), None))
        }
        Backend::Valkey(named) => {
            let valkey = valkey::open(config, named, clock).await?;
            valkey.register_metrics(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
            Ok((valkey.clone(), Some(valkey)))
        }
        Backend::Embedded | Backend::Raft(_) | Backend::Absent => {
            Err(Error::OtherMode { configured: config.mode().as_str(), instead: "Server" })
        }
    }
}

/// Payloads by the addresses of their batches, else from the server that the
/// configuration names.
fn payloads(config: &Config, clock: &SharedClock) -> Result<RemotePayloads, Error> {
    let pool = clients::payload_pool(config, clock);
    let flight = config.flight_addr().uri();
    let client = FlightClient::with_pool(pool, &flight, RetryPolicy::TRANSFER, clock.clone())?;
    let payloads = RemotePayloads::new(client);
    let home = match config.backend() {
        Backend::Remote(remote) => remote.only().filter(|one| *one != config.flight_addr()),
        _ => None,
    };
    Ok(match home {
        Some(home) => payloads.with_home(home.uri()),
        None => payloads,
    })
}

pub(super) async fn close_admin(admin: AdminServer) {
    if tokio::time::timeout(ADMIN_CLOSE, admin.shutdown()).await.is_err() {
        tracing::debug!("a connection to the admin port was cut");
    }
}
