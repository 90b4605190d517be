//! The coordinator that this process replicates with others.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_coordinator::engine;
use sheaf_flight::{ChannelPool, ClientConfig, RouterBuilder};
use sheaf_raft::admin::RaftActions;
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::coordinator::{self, EngineMachine, MigrationActions, RaftCoordinator, RpcForward};
use sheaf_raft::network::flight;
use sheaf_raft::node::{LOG_BYTES, MemberStatus, RaftNode, StartError};
use sheaf_raft::replica::Replica as _;
use sheaf_raft_transport::FlightTransport;
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_telemetry::Status;
use tokio::task::JoinHandle;

use super::error::Error;
use super::protect;
use crate::config::{Config, RaftConfig};

/// Folder of a node in its data directory.
const FOLDER: &str = "raft";
/// A node without a leader is down after so many election timeouts.
const LEADERLESS: u32 = 4;
/// How long the coordinator waits for what was proposed when the node ends.
const CLOSING: Duration = Duration::from_secs(2);

type Node = RaftNode<EngineMachine>;

/// A node, and the coordinator on it.
#[derive(Clone)]
pub(super) struct Replicated {
    pub(super) node: Node,
    pub(super) coordinator: RaftCoordinator<Node>,
    transport: FlightTransport,
    pool: ChannelPool,
    /// Of the log, when it last grew.
    log_bytes: Arc<AtomicU64>,
    /// Has the log until the node has stopped.
    keeping: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Opens log and snapshots, and starts the node; it talks to the others once its
/// port is served.
pub(super) async fn open(
    config: &Config,
    raft: &RaftConfig,
    clock: &SharedClock,
) -> Result<Replicated, Error> {
    let failed = |source: StartError| Error::Raft {
        data_dir: config.data_dir().display().to_string(),
        source,
    };
    let cluster =
        RaftClusterConfig { enable_ssl: config.security().has_tls(), ..raft.cluster_config() };
    let folder = config.data_dir().join(FOLDER);
    let parts = sheaf_raft::node::open(&folder, &cluster, EngineMachine::new()).await;
    let parts = parts.map_err(failed)?;
    let transport = FlightTransport::try_new(transport_config(config, &cluster), clock.clone());
    let transport = transport.map_err(|error| Error::Flight(error.into()))?;
    let links = flight::links(transport.clone());
    let (log, log_bytes) = (parts.log.clone(), Arc::new(AtomicU64::new(0)));
    let node: Node = RaftNode::start(cluster, parts, links).await.map_err(failed)?;
    let shown = Arc::clone(&log_bytes);
    let size = move || {
        let bytes = log.status().disk_bytes;
        shown.store(bytes, Ordering::Relaxed);
        bytes
    };
    let keeping = tokio::spawn(node.clone().keep_log_small(size, LOG_BYTES));
    let keeping = Arc::new(Mutex::new(Some(keeping)));
    let forward = Arc::new(RpcForward::new(protect::client(config), clock.clone()));
    let settings = coordinator::Config {
        engine: engine_config(config),
        ..coordinator::Config::new(raft.node())
    };
    let coordinator =
        RaftCoordinator::start(Arc::new(node.clone()), settings, forward, clock.clone());
    let client = ClientConfig { is_forwarding: true, ..protect::client(config) };
    let pool = ChannelPool::new(client, clock.clone());
    Ok(Replicated { node, coordinator, transport, pool, log_bytes, keeping })
}

fn transport_config(config: &Config, cluster: &RaftClusterConfig) -> sheaf_raft_transport::Config {
    sheaf_raft_transport::Config {
        security: config.security().client().clone(),
        // Where clients have to show certificates, those of nodes have to name them.
        needs_certificates: config.security().server().client_ca.is_some(),
        ..flight::transport_config(cluster)
    }
}

fn engine_config(config: &Config) -> engine::Config {
    engine::Config {
        retry: RetryPolicy { max_retries: config.max_retries(), ..RetryPolicy::QUEUE },
        max_live_bytes: config.max_live_bytes(),
        ..engine::Config::default()
    }
}

impl Replicated {
    /// Has the port answer the other nodes, and whoever looks after the cluster.
    pub(super) fn serve(
        &self,
        router: RouterBuilder,
        registry: &mut sheaf_telemetry::Registry,
    ) -> Result<RouterBuilder, Error> {
        use sheaf_raft_transport::RaftTransport as _;
        self.coordinator.register_metrics(registry);
        self.transport.metrics().register(registry);
        let log_bytes = Arc::clone(&self.log_bytes);
        self.node.register_metrics(registry, move || log_bytes.load(Ordering::Relaxed));
        let router = self.transport.serve(router, flight::engine(self.node.service()));
        let router = router.map_err(|error| Error::Flight(error.into()))?;
        let name = format!("the Raft cluster {}", self.node.config().cluster_id);
        let moving = MigrationActions::new(self.coordinator.clone(), name, self.pool.clone());
        let actions = RaftActions::new(self.node.clone(), self.pool.clone());
        Ok(router.actions(Arc::new(actions)).actions(Arc::new(moving)))
    }

    /// Founds the cluster, unless it is there or this node waits to be added; tries
    /// until it is known which.
    pub(super) async fn found(self, raft: RaftConfig, clock: SharedClock) {
        if raft.is_joining() {
            tracing::info!(%raft, "waits to be added: `sheaf raft add-learner` at another node");
            return;
        }
        match self.node.found(clock).await {
            Ok(()) => tracing::info!(%raft, "belongs to its cluster"),
            Err(error) => tracing::error!(%raft, %error, "founds no cluster"),
        }
    }

    /// Whether this node leads: what all nodes hear of, one of them tells. It does so also while
    /// it applies what the leader before it may not have come to tell.
    pub(super) fn leads(&self) -> bool {
        let leadership = self.node.leadership();
        let leader = leadership.borrow().leader.as_ref().map(|(id, _)| *id);
        leader == Some(self.node.id())
    }

    /// For the health page: a node that has no leader takes no work.
    pub(super) fn standing(&self) -> Status {
        let status = self.node.status();
        if let Some(why) = status.stopped {
            return Status::down(format!("stopped: {why}"));
        }
        let patience = self.node.config().election_timeout();
        if let Some(since) = status.since_quorum.filter(|since| *since > patience) {
            let millis = since.as_millis();
            return Status::down(format!("leads, and no majority answered for {millis} ms"));
        }
        match status.leader {
            Some(leader) => Status::up(format!(
                "{} in term {}, node {leader} leads, entry {} applied",
                status.role.name(),
                status.term,
                status.applied.unwrap_or(0),
            )),
            None => Status::down("no leader is known".to_owned()),
        }
    }

    /// Hands the lead over where this node has it, so that nobody has to wait for
    /// an election; its port still answers the others.
    pub(super) async fn hand_over(&self, clock: &SharedClock) {
        let status = self.node.status();
        let is_other = |member: &MemberStatus| member.is_voter && member.id != status.id;
        if status.leader != Some(status.id) || !status.members.iter().any(is_other) {
            return;
        }
        let patience = self.node.config().election_timeout() * LEADERLESS;
        tokio::select! {
            handed = self.node.hand_over() => match handed {
                Ok(heir) => tracing::info!(heir, "handed the lead over"),
                Err(error) => tracing::warn!(%error, "the lead is not handed over"),
            },
            () = clock.sleep(patience) => tracing::warn!("nobody takes the lead"),
        }
    }

    /// The node's end, and that of what has its log.
    async fn ended(&self) {
        self.node.shutdown().await;
        let keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeping) = keeping
            && let Err(error) = keeping.await
        {
            tracing::error!(%error, "what keeps the log small failed");
        }
    }

    /// Ends the node. What is under way has a moment to be answered: without a majority
    /// it is answered only as the node ends. What was acknowledged is on disk: where a
    /// part of the node does not come to its end, nothing is lost without it.
    pub(super) async fn close(&self, clock: &SharedClock) {
        let mut closing = pin!(self.coordinator.close());
        let closed = tokio::select! {
            () = closing.as_mut() => true,
            () = clock.sleep(CLOSING) => false,
        };
        let patience = self.node.config().election_timeout() * LEADERLESS;
        tokio::select! {
            () = self.ended() => {}
            () = clock.sleep(patience) => {
                tracing::warn!(?patience, "the node does not end; it is cut");
            }
        }
        if !closed {
            tracing::warn!("what was proposed last has no answer: no majority was there");
            tokio::select! {
                () = closing => {}
                () = clock.sleep(patience) => {
                    tracing::warn!(?patience, "calls under way do not end; they are cut");
                }
            }
        }
        self.transport.shutdown(Duration::ZERO).await;
    }
}
