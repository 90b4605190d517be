//! The transport of one node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{
    Exposure, FlightRouter, Limits, Listener, MessageStream, RouterBuilder, Server, ServerHandle,
};
use sheaf_retry::{RetryPolicy, SharedClock};

use crate::context::Context;
use crate::engine::{Engine, NoEngine};
use crate::inbox::{Inbox, IncomingMessage};
use crate::packet::{Lane, Packet};
use crate::peer::{Link, Peer};
use crate::stream::{StreamReceiver, StreamSender};
use crate::{Config, Error, Metrics, NodeId, bulk, call, serve, stream};

/// What carries the messages of a consensus engine, whichever it is.
///
/// 1. A message is carried at most once: what fails is the engine's to send again.
/// 2. A message that arrived is what was sent, from whom it says.
/// 3. Messages of one stream arrive in the order in which they were sent; calls have
///    no order among each other.
/// 4. Every method may be dropped at any await.
#[async_trait]
pub trait RaftTransport: Send + Sync {
    /// Makes a node a peer and says hello to it, trying again for
    /// [`connect_patience`](crate::Config::connect_patience). Also where that fails it is
    /// a peer from then on, and is tried again when something is to be sent. A peer
    /// that is there with other addresses gets these.
    ///
    /// # Errors
    /// [`Error::Unreachable`]; what the peer says that will not have this node.
    async fn connect_to_peer(&self, peer: NodeId, endpoints: Vec<String>) -> Result<(), Error>;

    /// Closes all connections to a peer; what is under way there fails.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`].
    async fn disconnect_from_peer(&self, peer: NodeId) -> Result<(), Error>;

    /// Sends a message to the peer's inbox and returns the reply.
    ///
    /// # Errors
    /// Of [`Error`]. Only [`Error::Unreachable`], [`Error::UnknownPeer`] and
    /// [`Error::TooLarge`] say that the peer did not get it.
    async fn send_message(&self, peer: NodeId, message: Bytes) -> Result<Bytes, Error>;

    /// Waits for the next message that a peer has sent here.
    ///
    /// # Errors
    /// [`Error::Closed`].
    async fn receive_message(&self) -> Result<IncomingMessage, Error>;

    /// Whether each component can be used: `server`, `peer N` (all its lanes that were
    /// used, and one at least), and `peer N LANE` for
    /// each lane that was used, as of its last use.
    fn health_status(&self) -> BTreeMap<String, bool>;

    /// Counters, readable by name.
    fn metrics(&self) -> Metrics;
}

/// The transport over Arrow Flight. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct FlightTransport {
    context: Arc<Context>,
    inbox: Arc<Inbox>,
    peers: Arc<RwLock<BTreeMap<NodeId, Arc<Peer>>>>,
    server: Arc<Mutex<Serving>>,
}

/// Where peers reach this node.
#[derive(Debug, Default)]
enum Serving {
    /// Nowhere.
    #[default]
    No,
    /// On a port that is served by others.
    Mounted,
    /// On a port of its own.
    Own(ServerHandle),
}

impl FlightTransport {
    /// A transport without peers, which answers nobody yet.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn try_new(config: Config, clock: SharedClock) -> Result<Self, Error> {
        config.validate()?;
        let inbox = Arc::new(Inbox::new(config.inbox_messages, config.inbox_bytes));
        let context = Context::new(config, clock);
        Ok(FlightTransport { context, inbox, peers: Arc::default(), server: Arc::default() })
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// Has a port that others serve answer this node's peers too: the namespace
    /// `raft` and the actions `raft.*`. Its limits have to allow messages and actions of
    /// a little more than [`max_message_bytes`](crate::Config::max_message_bytes).
    ///
    /// # Errors
    /// [`Error::Config`] for an action of the engine that is not `raft.KIND.v1`.
    pub fn serve(
        &self,
        router: RouterBuilder,
        engine: Arc<dyn Engine>,
    ) -> Result<RouterBuilder, Error> {
        let router = serve::mount(&self.context, &self.inbox, engine, router)?;
        let mut server = self.server();
        if matches!(*server, Serving::No) {
            *server = Serving::Mounted;
        }
        Ok(router)
    }

    /// Answers this node's peers on a port of its own, `HOST:PORT`, until the
    /// transport is dropped or shut down.
    ///
    /// # Errors
    /// [`Error::Flight`] where the port cannot be used, [`Error::Config`].
    pub async fn listen(&self, endpoint: &str, engine: Arc<dyn Engine>) -> Result<(), Error> {
        let config = &self.context.config;
        let defaults = Limits::default();
        let limits = Limits {
            max_message_bytes: defaults.max_message_bytes.max(config.max_flight_bytes()),
            max_action_bytes: defaults.max_action_bytes.max(config.max_flight_bytes()),
            ..defaults
        };
        let clock = Arc::clone(&self.context.clock);
        let router = FlightRouter::builder().clock(clock).limits(limits);
        let router = serve::mount(&self.context, &self.inbox, engine, router)?.build()?;
        // Certificates of nodes stand in for tokens: who has none is refused.
        let is_secured = config.needs_certificates && config.server_security.has_tls();
        let exposure = match config.exposure {
            Exposure::Secured if is_secured => Exposure::Insecure,
            other => other,
        };
        let listener = Listener::bind(endpoint, "the local endpoint", exposure)?;
        let server = Server::new(router).security(config.server_security.clone());
        *self.server() = Serving::Own(server.serve(listener).await?);
        Ok(())
    }

    /// Where it listens, on a port of its own.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &*self.server() {
            Serving::Own(handle) => Some(handle.local_addr()),
            _ => None,
        }
    }

    /// Answers nobody any more on its own port, after `grace` for what is under way,
    /// and disconnects from all peers.
    pub async fn shutdown(&self, grace: Duration) {
        self.inbox.close();
        let server = std::mem::take(&mut *self.server());
        if let Serving::Own(handle) = server {
            handle.drain(grace).await;
        }
        let peers =
            std::mem::take(&mut *self.peers.write().unwrap_or_else(PoisonError::into_inner));
        peers.values().for_each(|peer| peer.close());
    }

    /// Makes a node a peer without connecting to it: that is done when something is
    /// sent. One that is there with the same addresses stays as it is. Call it on a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyPeers`], or an address that is none.
    pub fn add_peer(&self, peer: NodeId, endpoints: Vec<String>) -> Result<(), Error> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if peers.get(&peer).is_some_and(|known| known.endpoints == endpoints) {
            return Ok(());
        }
        let limit = self.context.config.max_peers;
        if peers.len() >= limit && !peers.contains_key(&peer) {
            return Err(Error::TooManyPeers { limit });
        }
        let new = Arc::new(Peer::new(&self.context, peer, endpoints)?);
        if let Some(old) = peers.insert(peer, new) {
            old.close();
        }
        Ok(())
    }

    /// Whom it knows.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Calls a peer: DoAction `raft.KIND.v1`. The deadline holds for all of it.
    ///
    /// # Errors
    /// As [`RaftTransport::send_message`].
    pub async fn call(
        &self,
        peer: NodeId,
        lane: Lane,
        kind: &str,
        packet: Packet,
        deadline: Duration,
    ) -> Result<Packet, Error> {
        let link = self.link(peer, lane)?;
        call::call(&self.context, &link, lane, kind, packet, deadline).await
    }

    /// Opens a stream to a peer: DoExchange of `["raft", KIND]`. Requests that wait
    /// go together, replies come in the order of the requests.
    ///
    /// # Errors
    /// [`Error::Unreachable`], and what the peer says to the stream as a whole.
    pub async fn open_stream(
        &self,
        peer: NodeId,
        lane: Lane,
        kind: &str,
    ) -> Result<(StreamSender, StreamReceiver), Error> {
        let link = self.link(peer, lane)?;
        stream::open(&self.context, &link, lane, kind).await
    }

    /// Sends Arrow messages, the schema first, over the bulk lane: DoPut of
    /// `["raft", KIND]`. Returns what the peer's engine answered when it had all of
    /// it. There is no deadline: drop the future to break it off.
    ///
    /// # Errors
    /// [`Error::Unreachable`], those of the peer and of `messages`.
    pub async fn send_bulk(
        &self,
        peer: NodeId,
        kind: &str,
        meta: Bytes,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let link = self.link(peer, Lane::Bulk)?;
        bulk::send(&self.context, &link, kind, meta, messages).await
    }

    fn server(&self) -> MutexGuard<'_, Serving> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, peer: NodeId, lane: Lane) -> Result<Arc<Link>, Error> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let known = peers.get(&peer).ok_or(Error::UnknownPeer { peer })?;
        Ok(Arc::clone(known.link(lane)))
    }
}

#[async_trait]
impl RaftTransport for FlightTransport {
    async fn connect_to_peer(&self, peer: NodeId, endpoints: Vec<String>) -> Result<(), Error> {
        self.add_peer(peer, endpoints)?;
        let link = self.link(peer, Lane::Control)?;
        let config = &self.context.config;
        let patience = u64::try_from(config.connect_patience.as_millis()).unwrap_or(u64::MAX);
        let policy = RetryPolicy { deadline_ms: Some(patience), ..config.reconnect.clone() };
        let clock = Arc::clone(&self.context.clock);
        let attempt = async |_| link.route().await.map(drop);
        let connected = sheaf_retry::retry(&policy, config.seed, clock, attempt).await;
        connected.map_err(sheaf_retry::Error::into_last)
    }

    async fn disconnect_from_peer(&self, peer: NodeId) -> Result<(), Error> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let known = peers.remove(&peer).ok_or(Error::UnknownPeer { peer })?;
        known.close();
        Ok(())
    }

    async fn send_message(&self, peer: NodeId, message: Bytes) -> Result<Bytes, Error> {
        let packet = Packet { payloads: vec![message], ..Packet::default() };
        let deadline = self.context.config.message_timeout;
        let reply = self.call(peer, Lane::Data, serve::MESSAGE, packet, deadline).await?;
        Ok(reply.payloads.into_iter().next().unwrap_or_default())
    }

    async fn receive_message(&self) -> Result<IncomingMessage, Error> {
        self.inbox.take().await
    }

    fn health_status(&self) -> BTreeMap<String, bool> {
        let is_served = match &*self.server() {
            Serving::No => false,
            Serving::Mounted => true,
            Serving::Own(handle) => handle.health().is_serving(""),
        };
        let mut health = BTreeMap::from([("server".to_owned(), is_served)]);
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        for (id, peer) in peers.iter() {
            let lanes: Vec<_> = peer.health().collect();
            let all = !lanes.is_empty() && lanes.iter().all(|(_, is_up)| *is_up);
            health.insert(format!("peer {id}"), all);
            for (lane, is_up) in lanes {
                health.insert(format!("peer {id} {}", lane.as_str()), is_up);
            }
        }
        health
    }

    fn metrics(&self) -> Metrics {
        self.context.metrics.clone()
    }
}

/// A transport that listens by itself and has an inbox: the four calls of
/// [`RaftTransport`] are all that it takes. `local_endpoint` is `HOST:PORT`; port 0
/// takes a free one.
///
/// # Errors
/// [`Error::Config`]; [`Error::Flight`] where the port cannot be used.
pub async fn create_arrow_flight_transport(
    local_endpoint: &str,
    config: Config,
    clock: SharedClock,
) -> Result<FlightTransport, Error> {
    let transport = FlightTransport::try_new(config, clock)?;
    transport.listen(local_endpoint, Arc::new(NoEngine)).await?;
    Ok(transport)
}
