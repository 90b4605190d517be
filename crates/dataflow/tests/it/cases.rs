//! A pipeline whose components run in this process, each with ports of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_dataflow::{
    AnyComponent, Assignment, ComponentError, DurableAssignment, Host, InputAssignment, Options,
    OutputAssignment, Peer, Start,
};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{self, ControlPlane, ControlService};
use sheaf_pipeline::health::{Monitor, Timing};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::{self, Kind, Place, Token};
use sheaf_pipeline::spec::Role;
use sheaf_retry::SystemClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a broken test hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const DATA_TOKEN: &str = "the data token of this run";

pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    pub(crate) plan: Plan,
    server: ServerHandle,
    _monitor: Monitor,
    folder: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) run: u64,
    /// Where batches of durable edges wait.
    pub(crate) durable: Option<DurableAssignment>,
}

/// A component that runs.
pub(crate) struct Hosted {
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ComponentError>>,
    pub(crate) health: String,
}

impl Hosted {
    /// Waits until it has come to a good end.
    pub(crate) async fn done(self) {
        self.ended().await.unwrap();
    }

    pub(crate) async fn ended(self) -> Result<(), ComponentError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }

    /// Drops all that it has where it is, as a crash does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.done().await;
    }

    pub(crate) async fn stats(&self) -> Value {
        let (_, body) = get(&self.health, "/stats").await;
        serde_json::from_str(&body).unwrap()
    }

    /// One number of the only stream of the only edge.
    pub(crate) async fn sent(&self, field: &str) -> u64 {
        self.stats().await["outputs"][0]["streams"][0][field].as_u64().unwrap()
    }
}

impl World {
    pub(crate) async fn new(text: &str) -> Self {
        let checked = sheaf_pipeline::check::check("test.yaml", text).unwrap();
        let plan = Plan::new(&checked.pipeline);
        let timing =
            Timing { beat_every: Duration::from_millis(50), ..Timing::default().divided_by(15) };
        let clock = SystemClock::shared();
        let options = control::Options { timing, ..control::Options::default() };
        let plane = ControlPlane::open(options, clock.clone()).unwrap();
        plane.plan(places(&plan)).await.unwrap();
        let listener = Listener::bind("127.0.0.1:0", "--listen", Exposure::Loopback).unwrap();
        let service = ControlService::new(plane.clone()).into_server();
        let server = Server::new(FlightRouter::builder().build().unwrap())
            .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service)
            .serve(listener)
            .await
            .unwrap();
        let monitor = Monitor::start(&plane, &clock);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Options::default();
        let durable = None;
        World { plane, plan, server, _monitor: monitor, folder, options, run: 1, durable }
    }

    pub(crate) fn state_dir(&self, instance: &str) -> PathBuf {
        self.folder.path().join(instance)
    }

    pub(crate) fn assignment(&self, instance: &str) -> Assignment {
        let component = self
            .plan
            .components
            .iter()
            .find(|one| one.instances.iter().any(|found| found.id == instance))
            .unwrap();
        let index = component.instances.iter().find(|one| one.id == instance).unwrap().index;
        let peers = |id: &str| -> Vec<Peer> {
            let found = self.plan.component(id).unwrap();
            let of = |one: &sheaf_pipeline::plan::Instance| Peer {
                place: self.place(&one.id),
                index: one.index,
            };
            found.instances.iter().map(of).collect()
        };
        let inputs = self.plan.senders_of(&component.id);
        let outputs = self.plan.readers_of(&component.id);
        Assignment {
            pipeline: self.plan.pipeline.clone(),
            run: self.run,
            pass: self.run,
            graph: 0,
            place: self.place(instance),
            role: component.role,
            instance: instance.to_owned(),
            index,
            replicas: u32::try_from(component.instances.len()).unwrap(),
            definition: component.definition.clone(),
            listen: "127.0.0.1:0".to_owned(),
            advertise_host: None,
            // Whoever asks for statistics names a port.
            health_listen: match &self.durable {
                Some(_) => "127.0.0.1:0".to_owned(),
                None => free_address(),
            },
            control: self.server.uri(),
            token: token(&self.place(instance)).secret().expose().to_owned(),
            data_token: DATA_TOKEN.to_owned(),
            state_dir: self.state_dir(instance),
            tls: None,
            inputs: inputs
                .map(|edge| InputAssignment { edge: edge.clone(), from: peers(&edge.from) })
                .collect(),
            outputs: outputs
                .map(|edge| OutputAssignment { edge: edge.clone(), to: peers(&edge.to) })
                .collect(),
            durable: self.durable.clone(),
        }
    }

    pub(crate) fn place(&self, instance: &str) -> String {
        format!("{}:{instance}", self.plan.pipeline)
    }

    /// Runs a component at its place.
    pub(crate) fn host<M>(&self, instance: &str, make: M) -> Hosted
    where
        M: FnOnce(Start) -> AnyComponent + Send + 'static,
    {
        self.host_as(self.assignment(instance), make)
    }

    pub(crate) fn host_as<M>(&self, assignment: Assignment, make: M) -> Hosted
    where
        M: FnOnce(Start) -> AnyComponent + Send + 'static,
    {
        let (stop, health) = (CancellationToken::new(), assignment.health_listen.clone());
        let host = Host::new(assignment).options(self.options.clone()).stopped_by(stop.clone());
        let run = host.run(|start| async { Ok(make(start)) });
        Hosted { stop, health, task: tokio::spawn(run) }
    }

    pub(crate) async fn address(&self, instance: &str) -> String {
        let place = self.place(instance);
        let found = Arc::new(std::sync::Mutex::new(String::new()));
        eventually("it is registered", || async {
            let component = self.plane.component(place.clone()).await.unwrap();
            *found.lock().unwrap() = component.address.clone();
            component.status.is_held()
        })
        .await;
        found.lock().unwrap().clone()
    }
}

pub(crate) fn free_address() -> String {
    sheaf_testkit::free_port().unwrap().release().to_string()
}

fn token(place: &str) -> Token {
    Token::new(format!("the token of {place}"))
}

fn places(plan: &Plan) -> registry::Plan {
    let places = plan.components.iter().flat_map(|component| {
        let kind = match component.role {
            Role::Source => Kind::Source,
            Role::Processor => Kind::Processor,
            Role::Sink => Kind::Sink,
        };
        component.instances.iter().map(move |instance| {
            let id = format!("{}:{}", plan.pipeline, instance.id);
            let digest = token(&id).digest();
            Place {
                component: component.id.clone(),
                replica: instance.index,
                ..Place::new(id, kind, digest)
            }
        })
    });
    registry::Plan {
        id: plan.pipeline.clone(),
        name: plan.pipeline.clone(),
        spec: "{}".into(),
        plan_hash: "00".to_owned(),
        places: places.collect(),
    }
}

pub(crate) async fn eventually<F, Fut>(what: &str, condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    sheaf_testkit::wait_until_async(PATIENCE, what, condition).await.unwrap();
}

/// Status line and body of an HTTP answer.
pub(crate) async fn get(address: &str, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let connected = Arc::new(tokio::sync::Mutex::new(None));
    eventually("the health port is open", || async {
        let stream = tokio::net::TcpStream::connect(address).await.ok();
        let is_open = stream.is_some();
        *connected.lock().await = stream;
        is_open
    })
    .await;
    let mut stream = connected.lock().await.take().unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
