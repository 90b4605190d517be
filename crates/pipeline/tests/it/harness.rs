//! A control plane behind a real port.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Secret, Server, ServerHandle,
};
use sheaf_pipeline::control::{
    ClientOptions, ControlClient, ControlPlane, ControlService, Options,
};
use sheaf_pipeline::health::Timing;
use sheaf_pipeline::registry::{
    Beat, Kind, Limits, Metadata, Place, Plan, Registration, Token, incarnation,
};
use sheaf_pipeline::state::State;
use sheaf_retry::{ManualClock, RetryPolicy, SharedClock, SystemClock, Timestamp};

/// How long a broken test hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    pub(crate) handle: ServerHandle,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    /// In memory, with a clock that stands still.
    pub(crate) async fn new() -> Self {
        World::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let plane = ControlPlane::open(options, clock.clone()).unwrap();
        let handle = serve("127.0.0.1:0", plane.clone()).await;
        World { plane, handle, clock }
    }

    pub(crate) fn client(&self) -> ControlClient {
        client(&self.handle.uri(), once())
    }
}

pub(crate) async fn serve(address: &str, plane: ControlPlane) -> ServerHandle {
    let router = FlightRouter::builder().build().unwrap();
    let listener = Listener::bind(address, "--listen", Exposure::Loopback).unwrap();
    let service = ControlService::new(plane).into_server();
    Server::new(router)
        .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service)
        .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
        .serve(listener)
        .await
        .unwrap()
}

/// Beats often, and has all the patience of a real control plane.
pub(crate) fn lively(state: State) -> Options {
    let timing = Timing { beat_every: Duration::from_millis(50), ..Timing::default() };
    Options { state, timing, ..Options::default() }
}

/// Unhealthy after 2 s.
pub(crate) fn quick(state: State) -> Options {
    let beat_every = Duration::from_millis(50);
    let timing = Timing { beat_every, ..Timing::default().divided_by(15) };
    Options { state, timing, ..Options::default() }
}

pub(crate) fn clock() -> SharedClock {
    SystemClock::shared()
}

/// No retries: what comes back is what the server said.
pub(crate) fn once() -> ClientOptions {
    ClientOptions { retry: RetryPolicy::none(), ..ClientOptions::default() }
}

pub(crate) fn client(uri: &str, options: ClientOptions) -> ControlClient {
    let pool = ChannelPool::new(ClientConfig::default(), clock());
    ControlClient::new(pool, uri.parse().unwrap(), options, clock())
}

/// The token of a place, by its id.
pub(crate) fn token(id: &str) -> Token {
    Token::new(format!("the token of {id}"))
}

/// A source, a processor and a sink in a line: `ID:read`, `ID:filter`, `ID:write`.
pub(crate) fn plan(id: &str) -> Plan {
    let kinds = [("read", Kind::Source), ("filter", Kind::Processor), ("write", Kind::Sink)];
    let mut places: Vec<Place> = Vec::new();
    for (name, kind) in kinds {
        let place_id = format!("{id}:{name}");
        let digest = token(&place_id).digest();
        let mut place = Place { component: name.to_owned(), ..Place::new(place_id, kind, digest) };
        if let Some(before) = places.last_mut() {
            before.connections.downstream.push(place.id.clone());
            place.connections.upstream.push(before.id.clone());
        }
        places.push(place);
    }
    let spec = "sources:\n  read: {kind: generate}\n".into();
    let (name, plan_hash) = (id.to_owned(), "0011".to_owned());
    Plan { id: id.to_owned(), name, spec, plan_hash, places }
}

pub(crate) fn registration(id: &str, kind: Kind) -> Registration {
    Registration {
        id: id.to_owned(),
        kind,
        token: token(id).secret().clone(),
        incarnation: incarnation(clock().now().as_millis()),
        address: "grpc://127.0.0.1:50051".to_owned(),
        health_endpoint: String::new(),
        endpoints: Vec::new(),
        metadata: Metadata { name: id.to_owned(), ..Metadata::default() },
        load: None,
    }
}

pub(crate) fn worker(id: &str) -> Registration {
    Registration { token: Secret::new(""), ..registration(id, Kind::Worker) }
}

/// A beat of a component that makes a step between any two.
pub(crate) fn beat(of: &Registration, number: u64) -> Beat {
    let (id, incarnation) = (of.id.clone(), of.incarnation.clone());
    Beat { id, incarnation, sequence: number, progress: number, load: None }
}

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub(crate) fn file(directory: &Path) -> State {
    State::File(directory.join("control.redb"))
}

pub(crate) fn limited(limits: Limits) -> Options {
    Options { limits, ..Options::default() }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually<F, Fut>(what: &str, condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    sheaf_testkit::wait_until_async(PATIENCE, what, condition).await.unwrap();
}

/// The value of one line of the metrics, 0 where there is none.
pub(crate) fn metric(registry: &MetricsRegistry, line: &str) -> u64 {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0)
}
