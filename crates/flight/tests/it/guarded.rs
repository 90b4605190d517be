//! A server that asks for tokens, and what it writes into its log.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use sheaf_flight::{
    ActionHandler, CallContext, ChannelPool, ClientConfig, ClientSecurity, Error, Exposure,
    FlightConnection, FlightRouter, Limits, Listener, Need, Right, Secret, Security, SecurityFiles,
    Server, ServerHandle, TokenSource,
};
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status, body::Body};

use crate::memory::{Echo, Memory};

/// The token of a name.
pub(crate) fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

pub(crate) struct Guarded {
    pub(crate) handle: ServerHandle,
    pub(crate) memory: Arc<Memory>,
    pub(crate) clock: Arc<ManualClock>,
    security: Security,
    registry: Registry,
    folder: tempfile::TempDir,
}

pub(crate) type Intercepted =
    InterceptedService<tonic::transport::Channel, Box<dyn FnMut(Request<()>) -> Answer + Send>>;
type Answer = Result<Request<()>, Status>;

impl Guarded {
    /// Lines are a name and the words after its token.
    pub(crate) async fn new(lines: &[(&str, &str)], is_plain: bool) -> Self {
        Self::with(lines, is_plain, Limits::default()).await
    }

    pub(crate) async fn with(lines: &[(&str, &str)], is_plain: bool, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::EPOCH);
        write(folder.path().join("tokens"), lines);
        let files =
            SecurityFiles { tokens: Some(folder.path().join("tokens")), ..Default::default() };
        let security = Security::open(files, clock.clone()).unwrap();
        let (memory, mut registry) = (Memory::new("batches"), Registry::default());
        let router = FlightRouter::builder()
            .handler("batches", memory.clone())
            .handler("other", Memory::new("other"))
            .actions(Arc::new(Echo::default()))
            .actions(Arc::new(Tools))
            .peers("raft")
            .limits(limits)
            .clock(clock.clone())
            .metrics(&mut registry)
            .build()
            .unwrap();
        let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
        let server = Server::new(router)
            .security(security.clone())
            .add_service_in("tools", &[("Look", Right::Read)], Described)
            .add_service(Undescribed);
        let server = if is_plain { server.plain() } else { server };
        let handle = server.serve(listener).await.unwrap();
        Guarded { handle, memory, clock, security, registry, folder }
    }

    /// Other lines count from now on.
    pub(crate) fn exchange(&self, lines: &[(&str, &str)]) {
        write(self.folder.path().join("tokens"), lines);
        self.security.reload();
    }

    /// A channel that sends the token of a name.
    pub(crate) async fn channel(&self, name: &str) -> Intercepted {
        let uri = format!("http://{}", self.handle.local_addr());
        let channel = tonic::transport::Channel::from_shared(uri).unwrap().connect().await.unwrap();
        let value: AsciiMetadataValue = format!("Bearer {}", token(name)).parse().unwrap();
        let add = move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", value.clone());
            Ok(request)
        };
        InterceptedService::new(channel, Box::new(add))
    }

    pub(crate) async fn raw(&self, name: &str) -> FlightServiceClient<Intercepted> {
        FlightServiceClient::new(self.channel(name).await)
    }

    /// Our own client with the token of a name.
    pub(crate) fn ours(&self, name: &str) -> FlightConnection {
        let token = TokenSource::Fixed(Secret::new(token(name)));
        let security = ClientSecurity { token, ..ClientSecurity::default() };
        let config = ClientConfig { security, ..ClientConfig::default() };
        let pool = ChannelPool::new(config, SystemClock::shared());
        pool.connection(&self.handle.uri()).unwrap()
    }

    /// The value of one line of the metrics, 0 where there is none.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0)
    }
}

fn write(path: PathBuf, lines: &[(&str, &str)]) {
    let text: Vec<String> =
        lines.iter().map(|(name, words)| format!("{name} {} {words}\n", token(name))).collect();
    std::fs::write(&path, text.concat()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Actions that say what they need.
struct Tools;

#[async_trait]
impl ActionHandler for Tools {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![("Look", "Change nothing"), ("Turn", "Change something")]
    }

    fn needs(&self, action: &str) -> Need {
        let right = if action == "Look" { Right::Read } else { Right::Change };
        Need::One("tools", right)
    }

    async fn call(&self, _: &CallContext, _: &str, body: Bytes) -> Result<Vec<Bytes>, Error> {
        Ok(vec![body])
    }
}

macro_rules! empty_service {
    ($name:ident, $text:literal) => {
        /// A gRPC service that answers every call with nothing.
        #[derive(Clone)]
        struct $name;

        impl tonic::server::NamedService for $name {
            const NAME: &'static str = $text;
        }

        impl tower::Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Ready<Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: http::Request<Body>) -> Self::Future {
                ready(Ok(Status::ok("").into_http()))
            }
        }
    };
}

empty_service!(Described, "test.Described");
empty_service!(Undescribed, "test.Undescribed");

/// What is written to the log of target `sheaf::audit` on this thread.
#[derive(Clone, Default)]
pub(crate) struct AuditLog(Arc<Mutex<Vec<u8>>>);

impl AuditLog {
    /// Captures until the guard is dropped.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = AuditLog::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far, which are taken.
    pub(crate) fn take(&self) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["target"] == "sheaf::audit").collect()
    }
}

impl io::Write for AuditLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
