//! Looking into a pipeline that runs: its control plane and components are in this process.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use sheaf_dataflow::{
    AnyComponent, Assignment, ComponentError, Host, InputAssignment, Made, Outcome,
    OutputAssignment, Peer, Processor, Received, Sink, Source,
};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{ControlPlane, ControlService, Options};
use sheaf_pipeline::plan;
use sheaf_pipeline::registry::{Connections, Kind, Place, Plan, Token};
use sheaf_pipeline::spec::Role;
use sheaf_retry::SystemClock;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const FILE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: live}
sources: [{id: make, command: [none]}]
processors: [{id: pass, command: [none], inputs: [make]}]
sinks: [{id: keep, command: [none], inputs: [{from: pass, credits: 2}]}]
";

/// Gives the batches that it is told to, and ends with them.
struct Told(mpsc::Receiver<RecordBatch>);

#[async_trait]
impl Source for Told {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        Ok(self.0.recv().await.map(|batch| Made { batch, offset: Bytes::new() }))
    }
}

struct Pass(u64);

#[async_trait]
impl Processor for Pass {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.0 += 1;
        Ok(Outcome { batches: vec![received.batch.clone()], done: self.0 })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.0 })
    }
}

/// Writes when it is let.
struct Gate {
    open: watch::Receiver<bool>,
    written: Arc<watch::Sender<(u64, i64)>>,
}

#[async_trait]
impl Sink for Gate {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        self.open.wait_for(|open| *open).await.expect("the test has it");
        let sum: i64 = received.batch.column(0).as_primitive::<Int64Type>().values().iter().sum();
        self.written.send_modify(|written| *written = (written.0 + 1, written.1 + sum));
        Ok(self.written.borrow().0)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.written.borrow().0)
    }
}

/// A pipeline that runs.
pub(crate) struct Live {
    _server: ServerHandle,
    pub(crate) address: String,
    pub(crate) folder: TempDir,
    pub(crate) batches: Option<mpsc::Sender<RecordBatch>>,
    pub(crate) open: watch::Sender<bool>,
    pub(crate) written: Arc<watch::Sender<(u64, i64)>>,
    pub(crate) hosts: Vec<tokio::task::JoinHandle<Result<(), ComponentError>>>,
    stop: CancellationToken,
}

pub(crate) fn batch(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(numbers)) as _;
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

impl Live {
    pub(crate) async fn start() -> Self {
        let pipeline = sheaf_pipeline::check::check("live.yaml", FILE).unwrap().pipeline;
        let plan = plan::Plan::new(&pipeline);
        let plane = ControlPlane::open(Options::default(), SystemClock::shared()).unwrap();
        let service = ControlService::new(plane.clone()).into_server();
        let listener = Listener::bind("127.0.0.1:0", "--listen", Exposure::Loopback).unwrap();
        let server = Server::new(FlightRouter::builder().build().unwrap())
            .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service)
            .serve(listener)
            .await
            .unwrap();
        plane.plan(registered(&plan)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (batches, told) = mpsc::channel(1);
        let (open, gate) = watch::channel(false);
        let written = Arc::new(watch::Sender::new((0, 0)));
        let sink = Gate { open: gate, written: Arc::clone(&written) };
        let made = [
            ("keep", AnyComponent::Sink(Box::new(sink))),
            ("pass", AnyComponent::Processor(Box::new(Pass(0)))),
            ("make", AnyComponent::Source(Box::new(Told(told)))),
        ];
        let stop = CancellationToken::new();
        let hosts = made.into_iter().map(|(id, component)| {
            let assignment = assignment(&plan, id, &server.uri(), &folder);
            let host = Host::new(assignment).stopped_by(stop.clone());
            tokio::spawn(host.run(move |_| async move { Ok(component) }))
        });
        let hosts = hosts.collect();
        let address = server.local_addr().to_string();
        let batches = Some(batches);
        Live { _server: server, address, folder, batches, open, written, hosts, stop }
    }

    pub(crate) async fn send(&self, batch: RecordBatch) {
        self.batches.as_ref().unwrap().send(batch).await.unwrap();
    }

    /// Until `/stats` of everything says what is wanted.
    pub(crate) async fn wait_for_top(&self, wanted: impl Fn(&serde_json::Value) -> bool) {
        let patience = Duration::from_secs(30);
        let mut last = String::new();
        let seen = async {
            loop {
                let output = self.sheafctl(&["top", "--once", "--json", "--interval-ms", "100"]);
                last = crate::data(&output.await);
                if let Ok(seen) = serde_json::from_str(&last)
                    && wanted(&seen)
                {
                    return;
                }
            }
        };
        let came = tokio::time::timeout(patience, seen).await;
        assert!(came.is_ok(), "at last it was {last}");
    }

    /// Until so many look at the first edge.
    pub(crate) async fn wait_for_taps(&self, wanted: usize) {
        self.wait_for_top(|seen| seen["edges"][0]["taps"] == wanted).await;
    }

    /// Runs the binary against this control plane.
    pub(crate) async fn sheafctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut all: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        all.extend(["--server".to_owned(), self.address.clone()]);
        tokio::task::spawn_blocking(move || {
            crate::sheafctl(&all.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
        .unwrap()
    }

    /// The file of the run, as its owner has it.
    pub(crate) fn token_file(&self) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join("run.json");
        std::fs::write(&path, r#"{"version": 1, "dataToken": "the data token"}"#).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// Opens the gate, ends the source, and waits until all have come to their end; the control plane
    /// goes on.
    pub(crate) async fn end(&mut self) {
        self.open.send_replace(true);
        self.batches = None;
        for host in self.hosts.drain(..) {
            host.await.unwrap().unwrap();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn place(instance: &str) -> String {
    format!("live:{instance}")
}

fn registered(plan: &plan::Plan) -> Plan {
    let places = plan.components.iter().map(|one| {
        let kind = match one.role {
            Role::Source => Kind::Source,
            Role::Processor => Kind::Processor,
            Role::Sink => Kind::Sink,
        };
        let connections = Connections {
            upstream: plan.senders_of(&one.id).map(|edge| place(&edge.from)).collect(),
            downstream: plan.readers_of(&one.id).map(|edge| place(&edge.to)).collect(),
        };
        let found = Place::new(place(&one.id), kind, Token::new("a place").digest());
        Place { component: one.id.clone(), connections, ..found }
    });
    let (id, name) = (plan.pipeline.clone(), plan.pipeline.clone());
    Plan { id, name, spec: FILE.into(), plan_hash: "0".to_owned(), places: places.collect() }
}

fn assignment(plan: &plan::Plan, id: &str, control: &str, folder: &TempDir) -> Assignment {
    let component = plan.component(id).unwrap();
    let peer = |other: &str| vec![Peer { place: place(other), index: 0 }];
    let inputs = plan
        .senders_of(id)
        .map(|edge| InputAssignment { from: peer(&edge.from), edge: edge.clone() });
    let outputs =
        plan.readers_of(id).map(|edge| OutputAssignment { to: peer(&edge.to), edge: edge.clone() });
    Assignment {
        pipeline: plan.pipeline.clone(),
        run: 1,
        graph: 0,
        pass: 1,
        place: place(id),
        role: component.role,
        instance: id.to_owned(),
        index: 0,
        replicas: 1,
        definition: component.definition.clone(),
        listen: "127.0.0.1:0".to_owned(),
        advertise_host: None,
        health_listen: "127.0.0.1:0".to_owned(),
        control: control.to_owned(),
        token: "a place".to_owned(),
        data_token: "the data token".to_owned(),
        state_dir: folder.path().join(id),
        tls: None,
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        durable: None,
    }
}
