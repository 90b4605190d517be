//! One lane to a peer: its addresses, and how much may be under way.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use sheaf_flight::{ChannelPool, ClientConfig, FlightConnection};
use sheaf_retry::{RetryPolicy, Retryable as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::route::{Outstanding, Route, Standing, is_permanent, unreachable};
use crate::balance;
use crate::context::Context;
use crate::packet::Lane;
use crate::window::Gate;
use crate::{Config, Error, NodeId, WindowConfig, certificate_name};

/// Requests of the control lane begin with so many: one that takes long, such as
/// a command passed on to the leader, must not hold up a heartbeat.
const CONTROL_REQUESTS: usize = 64;

/// One lane to a peer.
#[derive(Debug)]
pub(crate) struct Link {
    context: Arc<Context>,
    pub(crate) peer: NodeId,
    lane: Lane,
    routes: Vec<Arc<Route>>,
    pub(crate) gate: Arc<Gate>,
    /// Whether the peer was disconnected.
    closed: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new(
        context: &Arc<Context>,
        peer: NodeId,
        lane: Lane,
        endpoints: &[String],
    ) -> Result<Self, Error> {
        let config = &context.config;
        let pool = pool(context, peer, endpoints.len());
        let routes = endpoints.iter().map(|endpoint| {
            let target = target(config, endpoint);
            Route::new(endpoint, target, pool.clone(), config.seed).map(Arc::new)
        });
        let routes = routes.collect::<Result<_, Error>>()?;
        let (requests, bytes) = context.metrics.in_flight();
        let gate = Gate::new(window(config, lane), requests, bytes);
        let context = Arc::clone(context);
        Ok(Link { context, peer, lane, routes, gate, closed: watch::Sender::new(false) })
    }

    /// Whether one of the addresses can be used; `None` where none was tried.
    pub(super) fn health(&self) -> Option<bool> {
        let known = self.routes.iter().filter_map(|route| route.health());
        known.reduce(|one, other| one || other)
    }

    /// The address for the next call or stream: of those that can be used the best
    /// one. Where none is known to be, all that are due are asked at once, and the
    /// first that answers is taken.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or what a peer says that will not have us.
    pub(crate) async fn route(self: &Arc<Self>) -> Result<InUse, Error> {
        let now = self.context.clock.elapsed();
        let mut up = Vec::new();
        let mut due = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            match route.standing(now) {
                Standing::Up(known, is_old) => {
                    up.push((index, known));
                    if is_old && self.routes.len() > 1 {
                        due.push(index);
                    }
                }
                Standing::Due => due.push(index),
                Standing::Down(_) => {}
            }
        }
        if let Some(index) = balance::best(up.into_iter(), now) {
            due.retain(|index| !self.routes[*index].is_being_probed());
            // What they find is kept by their routes.
            due.into_iter().for_each(|index| drop(self.probe(index)));
            return Ok(self.in_use(index));
        }
        let mut asked: FuturesUnordered<_> =
            due.into_iter().map(|index| self.probe(index)).collect();
        let mut refused = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok((index, Ok(()))) => return Ok(self.in_use(index)),
                Ok((_, Err(error))) => refused = Some(error),
                // The runtime ends.
                Err(_) => refused = Some(Error::Closed),
            }
        }
        Err(self.unreachable(refused))
    }

    /// Says hello to an address, whether or not somebody waits for it to the end: that
    /// an address does not answer is to be known also where callers have less patience.
    fn probe(&self, index: usize) -> JoinHandle<(usize, Result<(), Error>)> {
        let (context, peer) = (Arc::clone(&self.context), self.peer);
        let route = Arc::clone(&self.routes[index]);
        tokio::spawn(async move { (index, route.probe(&context, peer).await) })
    }

    /// Ends what is under way.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Resolves when the peer is disconnected.
    pub(crate) async fn closed(&self) -> Error {
        let mut closed = self.closed.subscribe();
        // Its sender is held here.
        drop(closed.wait_for(|is_closed| *is_closed).await);
        Error::UnknownPeer { peer: self.peer }
    }

    fn in_use(&self, index: usize) -> InUse {
        InUse { context: Arc::clone(&self.context), route: Arc::clone(&self.routes[index]) }
    }

    fn unreachable(&self, refused: Option<Error>) -> Error {
        let now = self.context.clock.elapsed();
        let next = self.routes.iter().filter_map(|route| match route.standing(now) {
            Standing::Down(at) => Some(at.saturating_sub(now)),
            _ => None,
        });
        let retry_after = next.min().unwrap_or_default();
        let found = self.routes.iter().filter_map(|route| route.problem());
        let permanent = found.clone().find(|(code, _)| is_permanent(*code));
        match (refused, permanent) {
            (Some(error), _) if is_permanent(error.code()) => error,
            (_, Some((code, text))) => Error::peer(self.peer, sheaf_flight::Error::new(code, text)),
            _ => {
                let mut problems: Vec<String> = found.map(|(_, text)| text).collect();
                problems.dedup();
                unreachable(self.peer, self.lane, problems.join("; "), retry_after)
            }
        }
    }
}

/// An address that is being used.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    context: Arc<Context>,
    route: Arc<Route>,
}

impl InUse {
    pub(crate) fn connection(&self) -> FlightConnection {
        self.route.connection()
    }

    /// Counts bytes that are under way there.
    pub(crate) fn outstanding(&self, bytes: usize) -> Outstanding {
        self.route.outstanding(bytes)
    }

    pub(crate) fn answered_after(&self, took: Duration) {
        self.route.measured(took, self.context.clock.elapsed());
        self.context.metrics.answered_after(took);
    }

    /// Counts what failed, and doubts the address where it may be its fault.
    pub(crate) fn failed(&self, error: Error) -> Error {
        if error.is_of_the_connection() {
            self.route.suspect(&error);
        }
        self.context.count(error)
    }
}

fn window(config: &Config, lane: Lane) -> WindowConfig {
    let window = config.window;
    match lane {
        Lane::Control => {
            let requests = window.requests.max(CONTROL_REQUESTS);
            WindowConfig { requests, max_requests: window.max_requests.max(requests), ..window }
        }
        Lane::Data | Lane::Bulk => window,
    }
}

/// Connections that nothing else uses.
fn pool(context: &Context, peer: NodeId, targets: usize) -> ChannelPool {
    let config = ClientConfig {
        connect_timeout: context.config.connect_timeout,
        max_targets: targets,
        retry: RetryPolicy::none(),
        seed: context.config.seed,
        security: context.config.security.clone(),
        ..ClientConfig::default()
    };
    let pool = ChannelPool::new(config, Arc::clone(&context.clock));
    match context.config.needs_certificates {
        true => pool.only_for(&certificate_name(&context.config.cluster_id, peer)),
        false => pool,
    }
}

/// Who has a CA for its peers speaks TLS to them, unless their address says otherwise.
fn target(config: &Config, endpoint: &str) -> String {
    match config.security.ca.is_some() && !endpoint.contains("://") {
        true => format!("grpc+tls://{endpoint}"),
        false => endpoint.to_owned(),
    }
}
