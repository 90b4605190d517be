//! One gRPC port: Flight, health, reflection, and what else is added to it.

mod audit;
mod authority;
mod body;
mod call;
mod connection;
mod counting;
mod deadline;
mod gate;
mod handle;
mod listener;
mod local;
mod outflow;
mod places;
mod services;
mod transport;
mod web;
mod windows;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;

pub use gate::{CutCall, PEER_HEADER};
pub use handle::{Drained, ServerHandle};
pub use listener::{Exposure, Listener};
pub use local::LocalListener;
pub(crate) use local::SocketFile;

pub use audit::Audit;
pub(crate) use audit::Refused;
pub(crate) use call::trailers;
pub use web::WebActions;

use crate::error::{Error, invalid};
use crate::middleware::Middleware;
use crate::plain::{FLIGHT_SERVICE, Plain};
use crate::router::{self, FlightRouter};
use crate::security::{Right, Security};
use crate::wire::IDLE_TIME;
use gate::Gate;
use services::{Access, Services};
use web::Web;

/// Descriptors of Flight's own service, for reflection.
const FLIGHT_DESCRIPTORS: &[u8] = include_bytes!("flight_descriptor.bin");
const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// How much one HTTP/2 frame carries: large enough that a 64 MiB message is
/// not ten thousand frames, small enough that streams of one connection take turns.
pub(crate) const FRAME_BYTES: u32 = 1 << 20;
/// How much of one stream may be under way before its reader asks for more.
pub(crate) const STREAM_WINDOW: u32 = 16 << 20;
/// The same for all streams of a connection together.
pub(crate) const CONNECTION_WINDOW: u32 = 64 << 20;
/// How often an open connection is asked whether it still lives.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer may take.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest block of request headers.
const HEADER_BYTES: u32 = 64 << 10;

/// Collects what one port serves.
///
/// # Memory
/// Under a [budget](crate::RouterBuilder::memory) all that the server holds is
/// counted: the windows of HTTP/2, which come out of one pool (at most 8 MiB
/// that a connection received and nobody read yet, less where there are many
/// connections), and the messages that streams are
/// putting together. Where it is used up, the message that comes slowest is
/// ended first. Streams, connections and the time that a client keeps a stream
/// without sending or reading are limited; what a handler keeps is counted for
/// as long as it keeps it. A handler that does not read its stream holds up to
/// the window of its connection: it should refuse rather than wait, or others
/// on the connection wait too.
pub struct Server {
    router: FlightRouter,
    routes: Routes,
    services: Vec<&'static str>,
    access: Services,
    descriptors: Vec<&'static [u8]>,
    security: Security,
    middleware: Vec<Arc<dyn Middleware>>,
    is_plain: bool,
    local: Option<LocalListener>,
    wrong: Vec<String>,
}

impl Server {
    /// A server of the router's Flight service, health and reflection.
    pub fn new(router: FlightRouter) -> Self {
        let routes =
            Routes::new(Plain::server(router.clone())).add_service(router.core.health.service());
        Server {
            router,
            routes,
            services: vec![FLIGHT_SERVICE],
            access: Services::default(),
            descriptors: vec![FLIGHT_DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET],
            security: Security::none(),
            middleware: Vec::new(),
            is_plain: false,
            local: None,
            wrong: Vec::new(),
        }
    }

    /// Serves another gRPC service on the same port; its calls count against
    /// the same limits and are drained with the others. Tokens whose rights are
    /// limited have none to it: [`Server::add_service_in`] says which they need.
    #[must_use]
    pub fn add_service<S>(self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.add(service, Access::Everything)
    }

    /// As [`Server::add_service`]; its calls need rights in `namespace`: those that
    /// `needs` says of methods, all others [`Right::Change`](crate::Right::Change).
    #[must_use]
    pub fn add_service_in<S>(
        self,
        namespace: &'static str,
        needs: &'static [(&'static str, Right)],
        service: S,
    ) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.add(service, Access::In { namespace, needs })
    }

    fn add<S>(mut self, service: S, access: Access) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let reserved = self.services.contains(&S::NAME)
            || S::NAME == HEALTH_SERVICE
            || REFLECTION.contains(&S::NAME);
        if reserved {
            self.wrong.push(format!("gRPC service {} is there twice", S::NAME));
            return self;
        }
        self.services.push(S::NAME);
        self.access.add(S::NAME, access);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Shows services added to whoever asks by gRPC reflection; `encoded` is a
    /// `FileDescriptorSet` with its imports.
    ///
    /// Only of methods that are named here the server knows that their client
    /// sends one message, and ends calls whose message does not come in
    /// `put_idle_timeout`.
    #[must_use]
    pub fn descriptors(mut self, encoded: &'static [u8]) -> Self {
        self.descriptors.push(encoded);
        self
    }

    /// Has gRPC's own codec serve DoGet, DoPut and DoExchange, which copies every
    /// body several times: the same bytes, slower. For comparison.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// Serves the same on a socket in the file system, without TLS: only the
    /// user of this process can connect to it. Tokens are asked for there too.
    #[must_use]
    pub fn local(mut self, listener: LocalListener) -> Self {
        self.local = Some(listener);
        self
    }

    /// Serves under TLS, and only to who has a token, as far as `security` has
    /// them; without, everything is open. gRPC health needs no token.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Has it look at every call; may be called for several, which look in
    /// this order until one refuses.
    #[must_use]
    pub fn middleware(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.middleware.push(middleware);
        self
    }

    /// Begins to serve; returns at once. Call it on a tokio runtime.
    ///
    /// # Errors
    /// `invalid_argument` for a service added twice or descriptors that cannot
    /// be read; `failed_precondition` where the listener is open to other
    /// machines on condition of TLS and tokens, and one is missing; `io` where
    /// it cannot be used.
    pub async fn serve(self, listener: Listener) -> Result<ServerHandle, Error> {
        let (v1, v1alpha, methods) = self.reflection()?;
        if !self.wrong.is_empty() {
            return Err(invalid(self.wrong.join("; ")));
        }
        listener.check(&self.security)?;
        let routes = self.routes.add_service(v1).add_service(v1alpha).prepare();
        let core = Arc::clone(&self.router.core);
        let gate = Gate::new(&core, methods, self.access, self.security, self.middleware);
        let gate = Arc::new(gate);
        for service in self.services {
            core.health.set(service, true).await;
        }
        core.health.set("", true).await;
        let address = listener.local_addr();
        let (shutdown, kill) = (CancellationToken::new(), CancellationToken::new());
        let local = self.local.map(LocalListener::into_tokio).transpose()?;
        let incoming =
            connection::incoming(listener.into_tokio()?, local, Arc::clone(&gate), kill.clone());
        let data = (!self.is_plain).then_some(self.router);
        let service = call::CallService::new(routes, data, Arc::clone(&gate));
        let web = WebActions(Web::new(service.clone(), &core));
        let serving = transport::serve(incoming, service, Arc::clone(&gate), shutdown.clone());
        let task = tokio::spawn(serving);
        tokio::spawn(give_back_memory(Arc::clone(&core), kill.clone()));
        tracing::debug!(%address, "serving Flight");
        Ok(ServerHandle::new(address, core, gate, shutdown, kill, task, web))
    }

    /// The reflection services, and the methods known by name.
    #[allow(clippy::type_complexity, reason = "the generated servers have no nameable type")]
    fn reflection(
        &self,
    ) -> Result<
        (
            tonic_reflection::server::v1::ServerReflectionServer<
                impl tonic_reflection::server::v1::ServerReflection + use<>,
            >,
            tonic_reflection::server::v1alpha::ServerReflectionServer<
                impl tonic_reflection::server::v1alpha::ServerReflection + use<>,
            >,
            gate::Methods,
        ),
        Error,
    > {
        let builder = || {
            let mut builder = tonic_reflection::server::Builder::configure();
            for &set in &self.descriptors {
                builder = builder.register_encoded_file_descriptor_set(set);
            }
            let names = self.services.iter().copied().chain([HEALTH_SERVICE]).chain(REFLECTION);
            for name in names {
                builder = builder.with_service_name(name);
            }
            builder
        };
        let unreadable = |error| invalid(format!("descriptors of a gRPC service: {error}"));
        let v1 = builder().build_v1().map_err(unreadable)?;
        let v1alpha = builder().build_v1alpha().map_err(unreadable)?;
        Ok((v1, v1alpha, call::method_names(&self.descriptors)?))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("router", &self.router)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// Gives memory that nothing was received into for a while back to the system.
async fn give_back_memory(core: Arc<router::Core>, end: CancellationToken) {
    while end.run_until_cancelled(core.memory.keeps_much()).await.is_some() {
        if end.run_until_cancelled(core.clock.sleep(IDLE_TIME / 2)).await.is_none() {
            return;
        }
        core.memory.give_back_old();
    }
}
