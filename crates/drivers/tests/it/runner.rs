//! The runner with a control plane and real processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::runner::{Options, Outcome, Runner, Started};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{self, ControlPlane, ControlService};
use sheaf_pipeline::health::Monitor;
use sheaf_pipeline::registry::{Component, PipelineState, Status};
use sheaf_pipeline::state::State;
use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::{TempDir, wait_until_async};

const TIME: Duration = Duration::from_secs(60);

fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

/// A control plane with a runner.
struct World {
    plane: ControlPlane,
    runner: Runner,
    address: String,
    server: ServerHandle,
    _monitor: Monitor,
}

impl World {
    async fn start(folder: &TempDir, address: &str, outlive: bool) -> Self {
        let clock: SharedClock = SystemClock::shared();
        let state = State::File(folder.path().join("control.redb"));
        let options = control::Options { state, ..control::Options::default() };
        let plane = ControlPlane::open(options, clock.clone()).unwrap();
        let listener = Listener::bind(address, "--listen", Exposure::Loopback).unwrap();
        let address = listener.local_addr().to_string();
        let service = ControlService::new(plane.clone()).into_server();
        let server = Server::new(FlightRouter::builder().build().unwrap())
            .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service)
            .serve(listener)
            .await
            .unwrap();
        let process = ProcessOptions {
            folder: folder.path().join("pipelines"),
            keeper: example("keeper"),
            programs: Programs::default(),
            outlive,
            prints: false,
            log: LogLimits::default(),
        };
        let driver = Arc::new(ProcessDriver::new(process, clock.clone()));
        let durable = sheaf_drivers::runner::DurableOptions::default();
        let options = Options {
            durable,
            folder: folder.path().join("pipelines"),
            host: "127.0.0.1".to_owned(),
            control: format!("grpc://{address}"),
            environment: std::collections::BTreeMap::new(),
            authority: None,
            variables: Vec::new(),
            tracer: None,
        };
        let runner = Runner::new(plane.clone(), driver, options, clock.clone());
        let monitor = Monitor::start(&plane, &clock);
        World { plane, runner, address, server, _monitor: monitor }
    }

    async fn component(&self, name: &str) -> Arc<Component> {
        self.plane.component(format!("pair:{name}")).await.unwrap()
    }

    async fn wait_for(&self, name: &str, wanted: impl Fn(&Component) -> bool) {
        let is = async || wanted(&*self.component(name).await);
        wait_until_async(TIME, "a component to be as it should", is).await.unwrap();
    }

    async fn wait_healthy(&self) {
        for name in ["a", "b"] {
            self.wait_for(name, |found| found.status == Status::Healthy).await;
        }
    }

    /// As where the process ends: nothing is stopped, and the port is free.
    async fn end(self) -> String {
        let World { plane, runner, address, server, _monitor } = self;
        drop((runner, _monitor));
        server.drain(Duration::ZERO).await;
        plane.close().await.unwrap();
        address
    }
}

/// Two components; `source` are further fields of the first.
fn text(source: &str) -> String {
    let program = example("beating").display().to_string();
    let common = "health: {interval: 200ms, timeout: 2s}";
    format!(
        "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: pair}}\nsources:\n  \
         - id: a\n    command: [{program}]\n    {common}\n    \
         restart: {{backoff: 50ms, maxBackoff: 100ms, maxRestarts: 3}}\n    {source}\nsinks:\n  \
         - id: b\n    inputs: [a]\n    command: [{program}]\n    {common}\n"
    )
}

async fn over(mut started: Started) -> Outcome {
    let ended = started.outcome.wait_for(Option::is_some);
    tokio::time::timeout(TIME, ended).await.unwrap().unwrap().clone().unwrap()
}

fn pid(folder: &TempDir, name: &str) -> i32 {
    let path = folder.path().join("pipelines/pair/instances").join(name).join("launch.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    i32::try_from(record["component"]["pid"].as_i64().unwrap()).unwrap()
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_or_hangs_is_started_again_and_a_stop_ends_everything() {
    let folder = TempDir::new().unwrap();
    let world = World::start(&folder, "127.0.0.1:0", false).await;
    let started = world.runner.start("pair.yaml", &text(""), false).await.unwrap();
    assert_eq!((started.run, started.instances), (1, 2));
    world.wait_healthy().await;
    let again = world.runner.start("pair.yaml", &text(""), false).await.unwrap_err();
    assert!(again.to_string().contains("runs already"), "{again}");
    let back = |restarts| {
        move |found: &Component| found.restarts == restarts && found.status == Status::Healthy
    };
    send(pid(&folder, "a"), Signal::KILL);
    world.wait_for("a", back(1)).await;
    send(pid(&folder, "a"), Signal::STOP);
    world.wait_for("a", back(2)).await;
    let before = world.component("a").await.fence;
    assert_eq!(world.runner.restart("pair", "a").await.unwrap(), 1);
    let is_other = move |found: &Component| found.fence > before;
    world.wait_for("a", move |found| is_other(found) && found.status == Status::Healthy).await;
    assert_eq!(world.component("a").await.restarts, 2, "one by hand is none");
    let outcome = world.runner.stop("pair", false, "enough").await.unwrap();
    assert_eq!(outcome, Outcome { state: PipelineState::Stopped, reason: "enough".to_owned() });
    assert_eq!(over(started).await, outcome);
    let pipeline = world.plane.pipeline("pair".to_owned()).await.unwrap();
    assert_eq!((pipeline.state, &*pipeline.reason), (PipelineState::Stopped, "enough"));
    let state = folder.path().join("pipelines/pair/state/a");
    assert!(state.is_dir(), "it may go on where it was");
    let fresh = world.runner.start("pair.yaml", &text("config: {livesMs: 1}"), true).await.unwrap();
    assert_eq!(fresh.run, 2);
    world.runner.stop("pair", true, "enough").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_too_often_fails_the_pipeline() {
    let folder = TempDir::new().unwrap();
    let world = World::start(&folder, "127.0.0.1:0", false).await;
    let started = world.runner.start("pair.yaml", &text("config: {exit: 7}"), false).await.unwrap();
    let outcome = over(started).await;
    assert_eq!(outcome.state, PipelineState::Failed);
    let reason =
        "a: exit status 7: fails as it is told to; it was restarted 3 times within 10m, its limit";
    assert_eq!(outcome.reason, reason);
    assert!(world.runner.running().is_empty());
    assert_eq!(world.component("a").await.restarts, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_control_plane_takes_up_what_goes_on_and_starts_what_does_not() {
    let folder = TempDir::new().unwrap();
    let first = World::start(&folder, "127.0.0.1:0", true).await;
    first.runner.start("pair.yaml", &text(""), false).await.unwrap();
    first.wait_healthy().await;
    let (lives, dies) = (pid(&folder, "a"), pid(&folder, "b"));
    let address = first.end().await;
    send(dies, Signal::KILL);
    let second = World::start(&folder, &address, true).await;
    assert_eq!(second.runner.adopt().await.unwrap(), ["pair"]);
    let back = |found: &Component| found.restarts == 1 && found.status == Status::Healthy;
    second.wait_for("b", back).await;
    assert_eq!(pid(&folder, "a"), lives);
    assert_eq!(second.component("a").await.restarts, 0);
    send(lives, Signal::KILL);
    second.wait_for("a", back).await;
    let outcome = second.runner.stop("pair", true, "enough").await.unwrap();
    assert_eq!(outcome.state, PipelineState::Stopped);
}
