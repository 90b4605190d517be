//! Who may call: counts calls by peer, refuses over the limit and while draining.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use sheaf_retry::{Code, Retryable as _};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::audit::{Audit, Refused};
use super::places::Places;
use super::services::Services;
use super::windows::Windows;
use crate::budget::Charge;
use crate::caller::Caller;
use crate::error::Error;
use crate::middleware::{AnswerHeaders, Middleware};
use crate::plain::Handshake;
use crate::router::{Core, FlightRouter};
use crate::security::{CallSlot, Grant, Right, Security, TOKEN_HEADER};
use crate::wire::context;

/// Flight's Handshake, by its path.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// When a client that found the server full may come back.
const FULL_RETRY: Duration = Duration::from_millis(100);
/// Memory of a call that does nothing yet.
const CALL_BYTES: u64 = 16 << 10;
/// Memory of a header beside its text, which is there twice.
const HEADER_BYTES: usize = 256;

/// When a client that found the server draining may come back.
const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// Calls of health and reflection at once, which anybody may make and leave open.
const MAX_BACKGROUND: usize = 64;
/// The same from one IP address.
const MAX_BACKGROUND_PER_PEER: usize = 16;

/// The header of a call that one server makes for another; its value does not matter.
/// Only a router that says so counts it apart: [`peers`](crate::RouterBuilder::peers).
pub const PEER_HEADER: &str = "sheaf-peer";
/// Calls of other servers at once.
const MAX_PEERS: usize = 256;

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Of a client.
    Client,
    /// Health and reflection.
    Background,
    /// Of another server.
    Peer,
}

/// Calls of each class.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([usize; 3]);

impl Counts {
    fn of(&mut self, class: Class) -> &mut usize {
        &mut self.0[class as usize]
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 3]
    }
}

/// Whether a path, without its slash, is one of health or reflection.
pub(super) fn is_background(path: &str) -> bool {
    path.starts_with("grpc.health.") || path.starts_with("grpc.reflection.")
}

/// A call that a drain did not wait for any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutCall {
    /// `DoPut`, or `SERVICE/METHOD` of another service.
    pub method: String,
    /// Who called.
    pub peer: Option<SocketAddr>,
    /// How long it had been running.
    pub running: Duration,
}

/// Methods by `SERVICE/METHOD`, and whether the client sends a stream.
pub(super) type Methods = BTreeMap<String, bool>;

pub(super) struct Gate {
    pub(super) core: Arc<Core>,
    pub(super) security: Security,
    middleware: Vec<Arc<dyn Middleware>>,
    /// Methods known by name: only they become metric labels.
    methods: Methods,
    services: Services,
    pub(super) audit: Arc<Audit>,
    pub(super) connections: Arc<Semaphore>,
    pub(super) places: Arc<Places>,
    pub(super) windows: Arc<Windows>,
    state: Mutex<State>,
    left: Notify,
    cut: CancellationToken,
}

#[derive(Default)]
struct State {
    draining: bool,
    next: u64,
    calls: HashMap<u64, Running>,
    counts: Counts,
    /// Those of one address.
    peers: HashMap<IpAddr, Counts>,
}

struct Running {
    method: String,
    peer: Option<SocketAddr>,
    since: Duration,
    /// All but those of clients are admitted while draining, never waited for, and
    /// not counted among the others.
    class: Class,
}

impl Gate {
    pub(super) fn new(
        core: &Arc<Core>,
        methods: Methods,
        services: Services,
        security: Security,
        middleware: Vec<Arc<dyn Middleware>>,
    ) -> Self {
        Gate {
            core: Arc::clone(core),
            security,
            middleware,
            methods,
            services,
            audit: Arc::new(Audit::new(Arc::clone(&core.clock))),
            connections: Arc::new(Semaphore::new(
                core.limits.max_connections.min(Semaphore::MAX_PERMITS),
            )),
            places: Places::new(Arc::clone(&core.clock)),
            windows: Arc::new(Windows::new(core.memory.budget(), core.limits.max_calls_per_peer)),
            state: Mutex::default(),
            left: Notify::new(),
            cut: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters are changed together below without a panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The label of a path: `DoPut` for Flight, `SERVICE/METHOD` for others,
    /// `other` for what no descriptor names.
    pub(super) fn label(&self, path: &str) -> String {
        let name = path.trim_start_matches('/');
        match name.strip_prefix(crate::plain::FLIGHT_SERVICE) {
            _ if !self.methods.contains_key(name) => "other".to_owned(),
            Some(method) => method.trim_start_matches('/').to_owned(),
            None => name.to_owned(),
        }
    }

    /// Whether the client of a call sends one message, as far as descriptors tell.
    pub(super) fn is_unary(&self, path: &str) -> bool {
        self.methods.get(path.trim_start_matches('/')).is_some_and(|is_stream| !is_stream)
    }

    /// What lets a call in; health needs nothing, so that whoever starts and
    /// stops servers can ask for it, and a handshake is what a token is had by.
    /// The token goes no further than this.
    pub(super) fn authorize(
        &self,
        path: &str,
        headers: &mut HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Grant, Error> {
        let is_handshake = path == HANDSHAKE && self.security.logins().is_some();
        let checked = match is_handshake || path.starts_with("/grpc.health.v1.Health/") {
            true => Ok(Grant::default()),
            false => self.security.authorize(headers),
        };
        headers.remove(AUTHORIZATION);
        headers.remove(TOKEN_HEADER);
        checked.inspect_err(|error| {
            let method = self.label(path);
            self.core.metrics.ended(&method, error.code().as_str());
            self.audit.refused(Refused { method: &method, peer, ..Refused::default() }, error);
        })
    }

    /// What a handshake is answered with, and the credentials of its headers.
    pub(super) fn handshake(&self, path: &str, headers: &HeaderMap) -> Option<Handshake> {
        let logins = self.security.logins().filter(|_| path == HANDSHAKE)?;
        Some(Handshake { logins: logins.clone(), header: headers.get(AUTHORIZATION).cloned() })
    }

    /// Has middleware look at a call that was let in.
    pub(super) fn begin(
        &self,
        path: &str,
        request: &Request<Body>,
        answer: &mut AnswerHeaders,
    ) -> Result<(), Error> {
        if self.middleware.is_empty() {
            return Ok(());
        }
        let router = FlightRouter { core: Arc::clone(&self.core) };
        let context = context(&router, request.headers(), request.extensions());
        let method = self.label(path);
        self.middleware.iter().try_for_each(|one| one.begin(&method, &context, answer))
    }

    /// Lets a call in, or says why not: within the limits of the server and of
    /// its token, and with the rights that its service needs.
    pub(super) fn admit(
        self: &Arc<Self>,
        path: &str,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        grant: &Grant,
    ) -> Result<(CallGuard, Caller), Error> {
        let mut guard = self.place(path, self.class(path, headers, grant), peer, grant)?;
        let method = guard.method.clone();
        let caller = Caller::new(method, peer, grant.clone(), Arc::clone(&self.audit));
        let refused = caller.require(self.services.need(path)).err();
        match refused {
            None => Ok((guard, caller)),
            Some(error) => {
                guard.end(error.code().as_str());
                Err(error)
            }
        }
    }

    fn class(&self, path: &str, headers: &HeaderMap, grant: &Grant) -> Class {
        let is_peer = || {
            let may = |namespace| grant.check(namespace, Right::Write).is_ok();
            headers.contains_key(PEER_HEADER) && self.core.peers.is_some_and(may)
        };
        match path.trim_start_matches('/') {
            path if is_background(path) => Class::Background,
            _ if is_peer() => Class::Peer,
            _ => Class::Client,
        }
    }

    /// A place among the calls under way.
    fn place(
        self: &Arc<Self>,
        path: &str,
        class: Class,
        peer: Option<SocketAddr>,
        grant: &Grant,
    ) -> Result<CallGuard, Error> {
        let method = self.label(path);
        let mut state = self.state();
        let refusal = if state.draining && class == Class::Client {
            Some(
                Error::new(Code::Draining, "the server is shutting down and takes no new calls")
                    .with_retry_after(DRAIN_RETRY),
            )
        } else {
            self.over_limit(&mut state, peer, class)
        };
        let slot = match refusal {
            Some(refusal) => Err(refusal),
            None => grant.begin().map_err(|limit| self.full_of_token(limit)),
        };
        let slot = match slot {
            Ok(slot) => slot,
            Err(refusal) => {
                drop(state);
                self.core.metrics.ended(&method, refusal.code().as_str());
                if refusal.code() != Code::Draining {
                    let token = grant.name();
                    let who = Refused { method: &method, peer, token, namespace: None };
                    self.audit.refused(who, &refusal);
                }
                return Err(refusal);
            }
        };
        let id = state.next;
        state.next += 1;
        let since = self.core.clock.elapsed();
        state.calls.insert(id, Running { method: method.clone(), peer, since, class });
        *state.counts.of(class) += 1;
        if let Some(peer) = peer {
            *state.peers.entry(peer.ip()).or_default().of(class) += 1;
        }
        drop(state);
        self.core.metrics.active.inc();
        let charge = Charge::new(self.core.memory.budget());
        Ok(CallGuard { gate: Arc::clone(self), id, method, code: None, charge, _slot: slot })
    }

    /// Why there are too many calls for one more, in all or from one address.
    fn over_limit(
        &self,
        state: &mut State,
        peer: Option<SocketAddr>,
        class: Class,
    ) -> Option<Error> {
        let limits = &self.core.limits;
        let of_peer = peer.and_then(|peer| state.peers.get(&peer.ip()).copied());
        let of_peer = *of_peer.unwrap_or_default().of(class);
        match (class, *state.counts.of(class)) {
            (Class::Background, MAX_BACKGROUND..) => Some(self.full_of(class, MAX_BACKGROUND)),
            (Class::Background, _) => (of_peer >= MAX_BACKGROUND_PER_PEER)
                .then(|| self.full_of(class, MAX_BACKGROUND_PER_PEER)),
            (Class::Peer, calls) => (calls >= MAX_PEERS).then(|| self.full_of(class, MAX_PEERS)),
            (Class::Client, calls) if calls >= limits.max_calls => {
                Some(self.full("calls", "max_calls", limits.max_calls))
            }
            (Class::Client, _) => (of_peer >= limits.max_calls_per_peer).then(|| {
                self.full("calls_per_peer", "max_calls_per_peer", limits.max_calls_per_peer)
            }),
        }
    }

    /// The same where no setting has the limit.
    fn full_of(&self, class: Class, limit: usize) -> Error {
        let (label, what) = match class {
            Class::Peer => ("peer_calls", "other servers"),
            _ => ("background_calls", "health and reflection"),
        };
        self.core.metrics.rejected(label);
        let text = format!("{limit} calls of {what} are under way, no more are allowed; try again");
        Error::new(Code::Overloaded, text).with_retry_after(FULL_RETRY)
    }

    fn full(&self, label: &'static str, field: &str, limit: usize) -> Error {
        self.core.metrics.rejected(label);
        Error::new(
            Code::Overloaded,
            format!("{limit} calls are under way, {field} allows no more; try again"),
        )
        .with_retry_after(FULL_RETRY)
    }

    fn full_of_token(&self, limit: usize) -> Error {
        self.core.metrics.rejected("calls_per_token");
        let text = format!(
            "{limit} calls are under way with this token, calls= of its line in the token file \
             allows no more; try again"
        );
        Error::new(Code::Overloaded, text).with_retry_after(FULL_RETRY)
    }

    /// Refuses new calls from now on.
    pub(super) fn start_drain(&self) {
        self.state().draining = true;
    }

    /// Resolves when no call of a client is under way.
    pub(super) async fn wait_until_idle(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.state().calls.values().all(|call| call.class != Class::Client) {
                return;
            }
            left.await;
        }
    }

    /// Ends every call, and says which.
    pub(super) fn cut(&self) -> Vec<CutCall> {
        let now = self.core.clock.elapsed();
        let mut calls: Vec<CutCall> = self
            .state()
            .calls
            .values()
            .filter(|call| call.class == Class::Client)
            .map(|call| CutCall {
                method: call.method.clone(),
                peer: call.peer,
                running: now.saturating_sub(call.since),
            })
            .collect();
        calls.sort_by(|a, b| b.running.cmp(&a.running).then_with(|| a.method.cmp(&b.method)));
        self.cut.cancel();
        calls
    }

    /// Resolves when calls are to end.
    pub(super) fn cut_token(&self) -> CancellationToken {
        self.cut.clone()
    }

    fn leave(&self, id: u64) {
        let mut state = self.state();
        let Some(call) = state.calls.remove(&id) else { return };
        *state.counts.of(call.class) -= 1;
        if let Some(ip) = call.peer.map(|peer| peer.ip())
            && let Some(of_peer) = state.peers.get_mut(&ip)
        {
            *of_peer.of(call.class) -= 1;
            if of_peer.is_empty() {
                state.peers.remove(&ip);
            }
        }
        drop(state);
        self.core.metrics.active.dec();
        self.left.notify_waiters();
    }
}

/// One call under way; leaves when it is dropped.
pub(super) struct CallGuard {
    gate: Arc<Gate>,
    id: u64,
    pub(super) method: String,
    code: Option<String>,
    /// Memory of the call itself.
    charge: Charge,
    /// Of its token.
    _slot: CallSlot,
}

impl CallGuard {
    /// Has the memory counted that every call takes, and that of its headers. A
    /// call with few of them waits until room is made; one with many does not,
    /// since it holds them meanwhile.
    ///
    /// # Errors
    /// `memory_full`.
    pub(super) async fn count(&mut self, headers: &HeaderMap) -> Result<(), Error> {
        let texts: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let of_headers = (headers.len() * HEADER_BYTES + 2 * texts) as u64;
        let is_counted = match of_headers {
            ..=CALL_BYTES => self.charge.grow_with_room(CALL_BYTES + of_headers).await,
            many => self.charge.grow(CALL_BYTES + many),
        };
        if is_counted {
            return Ok(());
        }
        self.gate.core.metrics.rejected("memory");
        self.end(Code::MemoryFull.as_str());
        let text = "no memory for one more call; try again";
        Err(Error::new(Code::MemoryFull, text).with_retry_after(FULL_RETRY))
    }

    /// How the call ended; the first word stands.
    pub(super) fn end(&mut self, code: impl Into<String>) {
        self.code.get_or_insert_with(|| code.into());
    }

    /// Logs a panic and makes an error of it.
    pub(super) fn panicked(&mut self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        tracing::error!(method = self.method, panic = text, "a handler panicked");
        self.gate.core.metrics.panicked();
        self.end(Code::Internal.as_str());
        Error::new(Code::Internal, format!("the handler of {} panicked", self.method))
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        // A call that is dropped before its end was given up by its caller.
        let code = self.code.take().unwrap_or_else(|| Code::Cancelled.as_str().to_owned());
        self.gate.core.metrics.ended(&self.method, &code);
        self.gate.leave(self.id);
    }
}
