//! `sheaf-gateway serve`: binds, reads Kafka, serves, and ends in good order.

mod args;
mod ends;
mod persist;
mod ports;
mod progress;
mod register;
mod registry;
mod router;
mod schemas;
mod security;
mod settings;
mod signals;
mod start;
mod target;
mod words;

use std::sync::PoisonError;
use std::time::Duration;

use sheaf_flight::{Budget, Security, Server};
use sheaf_kafka::{Metrics, SharedTracer};
use sheaf_retry::SharedClock;
use sheaf_telemetry::{Health, SharedRegistry, Status};
use sheaf_terminal::{Console, Failure};

pub(crate) use args::ServeArgs;
use ends::{interrupted, stopped};
use ports::Ports;
use router::router;
use signals::Signals;
use start::start;

/// How long calls may go on after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until a signal ends it.
pub(crate) async fn serve(
    args: ServeArgs,
    clock: SharedClock,
    tracer: Option<SharedTracer>,
    mut console: Console,
) -> Result<(), Failure> {
    let settings = args.resolve()?;
    if settings.pprof.is_some() {
        sheaf_telemetry::profile_heap();
    }
    let mut signals = Signals::listen()?;
    let mut ports = Ports::bind(&settings)?;
    let (registry, health) = (SharedRegistry::default(), Health::new());
    let security = Security::open(settings.security.files(), clock.clone())
        .map_err(|error| Failure::from_error(&error))?;
    let pages = ports.pages(&registry, &health, (&security, &clock))?;
    let (memory, metrics) = (Budget::new(settings.memory), Metrics::new(settings.memory));
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.register(&mut registry, &settings.metrics_namespace);
    }
    let gateway = tokio::select! {
        gateway = start(&settings, &memory, metrics, (&clock, tracer)) => gateway?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let router = router(&gateway, &settings, &memory, &registry, &clock)?;
    let flight = Server::new(router).security(security).serve(ports.flight).await;
    let flight = flight.map_err(|error| Failure::from_error(&error))?;
    let ended = gateway.ended();
    let reading = ended.clone();
    health.register("kafka", move || match reading.is_cancelled() {
        false => Status::up("topics are read"),
        true => Status::down("topics are not read any more: see the log"),
    });
    health.ready();
    let line = [format!("ready flight={}", flight.uri())];
    let line: Vec<String> = line.into_iter().chain(pages.iter().map(|page| page.shown())).collect();
    if console.data(&format!("{}\n", line.join(" "))).is_err() {
        tracing::warn!("the ready line could not be printed");
    }
    let is_watched = console.notes_on_terminal();
    let end = tokio::select! {
        never = progress::show(&gateway, &clock), if is_watched => match never {},
        signal = signals.next() => {
            tracing::info!(signal, "draining; a second signal ends at once");
            Ok(())
        }
        () = ended.cancelled() => Err(stopped()),
    };
    health.draining();
    let drained = async {
        gateway.stop().await;
        flight.drain(GRACE).await;
    };
    tokio::select! {
        () = drained => end,
        signal = signals.next() => Err(interrupted(signal)),
    }
}
