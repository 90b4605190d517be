//! A console over real connections: control plane, runner and coordinator are in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_console::{Console, Coordinators};
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator, Failure, LeaseRef, Outcome, Resolution, SettleRequest,
};
use sheaf_drivers::control::ServerToken;
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::runner::{self, Runner};
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Kind, Place, Plan, Token};
use sheaf_retry::{Code, SystemClock, Timestamp};
use sheaf_telemetry::{AdminServer, Health, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const FILE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: shop}
sources: [{id: orders, kind: generate, config: {columns: [{name: n, values: sequence}]}}]
processors: [{id: large, kind: filter, replicas: 2, inputs: [orders], config: {where: n > 1}}]
sinks: [{id: out, kind: stdout, inputs: [{from: large, durable: true}]}]
";

/// What no page may take for markup.
pub(crate) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\u{202e}\"'&";

pub(crate) struct World {
    pub(crate) admin: AdminServer,
    pub(crate) console: Console,
    pub(crate) plane: ControlPlane,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) token: String,
    _folder: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Why it was refused.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    pub(crate) async fn start() -> World {
        let (clock, folder) = (SystemClock::shared(), TempDir::new().unwrap());
        let plane = ControlPlane::open(Options::default(), clock.clone()).unwrap();
        let options = ProcessOptions {
            folder: folder.path().to_owned(),
            keeper: "none".into(),
            programs: Programs { host: None, store: None, beside: None, path: Vec::new() },
            outlive: false,
            prints: false,
            log: LogLimits::default(),
        };
        let driver = Arc::new(ProcessDriver::new(options, clock.clone()));
        let options = runner::Options {
            folder: folder.path().to_owned(),
            host: "127.0.0.1".to_owned(),
            control: "grpc://127.0.0.1:1".to_owned(),
            environment: BTreeMap::new(),
            variables: Vec::new(),
            authority: None,
            durable: runner::DurableOptions::default(),
            tracer: None,
        };
        let runner = Runner::new(plane.clone(), driver, options, clock.clone());
        let token = ServerToken::open(&folder.path().join("control-token"), clock.now()).unwrap();
        let coordinator: Arc<dyn Coordinator> =
            Arc::new(Embedded::open(Config::memory(), clock.clone()).unwrap());
        let shown = token.secret().expose().to_owned();
        let known = Arc::clone(&coordinator);
        let coordinators =
            Coordinators::by(move |name| (name == "shop").then(|| Arc::clone(&known)));
        let console = Console::start(runner, token, coordinators, clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Arc::new(Mutex::new(Registry::default()));
        let admin =
            AdminServer::start_with(listener, registry, Health::new(), console.router()).unwrap();
        World { admin, console, plane, coordinator, token: shown, _folder: folder }
    }

    /// A pipeline whose places nobody has taken.
    pub(crate) async fn plan(&self, name: &str, text: &str) {
        let places = ["orders", "large", "large.1", "out"].map(|id| {
            let place = Place::new(format!("{name}:{id}"), Kind::Sink, Token::new(id).digest());
            Place { component: id.trim_end_matches(".1").to_owned(), ..place }
        });
        let plan = Plan {
            id: name.to_owned(),
            name: name.to_owned(),
            spec: text.into(),
            plan_hash: "1".to_owned(),
            places: places.into(),
        };
        self.plane.plan(plan).await.unwrap();
        self.plane.begin_run(name.to_owned()).await.unwrap();
    }

    /// Registers batches of a queue that have failed for good, with this text.
    pub(crate) async fn fail(&self, ids: &[&str], queue: &str, why: &str) {
        let spec = |id: &&str| BatchSpec {
            queue: queue.to_owned(),
            rows: 7,
            ..BatchSpec::new(id.parse().unwrap())
        };
        self.coordinator.register(ids.iter().map(spec).collect()).await.unwrap();
        let request =
            ClaimRequest::new("w", format!("claim {queue}"), 100, Duration::from_secs(30));
        let request = ClaimRequest { queues: vec![queue.to_owned()], ..request };
        let leases = self.coordinator.claim(request).await.unwrap().leases;
        assert_eq!(leases.len(), ids.len());
        let outcomes = leases.iter().map(|lease| Outcome {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            resolution: Resolution::Failed,
            error: Some(Failure {
                code: Code::MalformedData,
                message: why.to_owned(),
                permanent: true,
                at: Timestamp::EPOCH,
            }),
            outputs: Vec::new(),
            delay: Duration::ZERO,
        });
        let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
        self.coordinator.settle(request).await.unwrap();
    }

    /// One request on a connection of its own, with these further headers.
    pub(crate) async fn ask(&self, first: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.admin.local_addr()).await.unwrap();
        let host = match headers.contains("host:") {
            true => String::new(),
            false => format!("host: {}\r\n", self.admin.local_addr()),
        };
        let length = body.len();
        let request = format!(
            "{first} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", "").await
    }

    /// With the token.
    pub(crate) async fn get_with(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &self.bearer(), "").await
    }

    pub(crate) fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.token)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = format!("{}content-type: application/json\r\n", self.bearer());
        self.ask(&format!("POST {path}"), &headers, &body.to_string()).await
    }

    pub(crate) async fn requeue(&self, ids: &[&str]) -> Answer {
        self.post("/api/requeue", &json!({"pipeline": "shop", "ids": ids})).await
    }
}
