//! Nodes, their disks, and the network between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft::async_runtime::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::node::{Parts, RaftNode, Role};
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::{Member, NodeId};
use tempfile::TempDir;

use crate::disk::{self, Bug, Disk};
use crate::driver::SimMachine;
use crate::links::Network;
use crate::observer::Observer;
use crate::registers::{Registers, hash};
use crate::time::pass;

pub(crate) type Node = RaftNode<Registers, SimRuntime, SimMachine>;

/// What the cluster is called.
pub(crate) const CLUSTER: &str = "simulation";

/// The nodes that found the cluster.
pub(crate) const VOTERS: [NodeId; 3] = [1, 2, 3];

/// Everything there is.
pub(crate) struct World {
    seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) network: Arc<Network>,
    disks: Mutex<BTreeMap<NodeId, Arc<Disk>>>,
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    /// How many disks were emptied.
    wiped: AtomicU64,
    /// Where the disks are.
    folder: TempDir,
}

/// Where a node would be reached, if there were addresses here.
pub(crate) fn member(id: NodeId) -> Member {
    Member::new(vec![format!("node-{id}:5001")])
}

/// What the nodes are told.
pub(crate) fn config(id: NodeId) -> RaftClusterConfig {
    let mut config = RaftClusterConfig::new(CLUSTER, id);
    for other in VOTERS.into_iter().chain([id].into_iter().filter(|id| !VOTERS.contains(id))) {
        config = config.node(other, format!("node-{other}:5001"));
    }
    // Two distances are kept.
    config.snapshot_distance = 20;
    config.kept_entries = 20;
    config.forward_proposals = true;
    config
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Arc<Self> {
        let observer = Arc::new(Observer::default());
        let network = Network::new(hash([seed, 1]), bug, &observer);
        let (folder, disks, nodes) = (disk::folder(), Mutex::default(), Mutex::default());
        let wiped = AtomicU64::new(0);
        Arc::new(World { seed, bug, observer, network, disks, nodes, wiped, folder })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn disk(&self, id: NodeId) -> Arc<Disk> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let wiped = self.wiped.load(Ordering::Relaxed);
        let disk = || {
            let incarnation = hash([self.seed, 6, id, wiped]);
            let path = self.folder.path().join(format!("{id}-{wiped}"));
            let seeds = (hash([self.seed, 2, id]), incarnation);
            Arc::new(Disk::new((id, path), seeds, self.bug, &self.observer))
        };
        Arc::clone(disks.entry(id).or_insert_with(disk))
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<Node> {
        self.nodes().get(&id).cloned()
    }

    /// Who runs.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.nodes().keys().copied().collect()
    }

    /// Who leads, as one of those says that does; the one of the last term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let nodes = self.nodes();
        let leads = nodes.values().map(|node| node.status()).filter(|s| s.role == Role::Leader);
        leads.max_by_key(|status| status.term).map(|status| status.id)
    }

    /// Starts a node on what its disk has; the links first, so that it is of this start.
    pub(crate) async fn start(&self, id: NodeId) {
        self.start_as(id, config(id)).await;
    }

    /// The same, with other settings than it should have.
    pub(crate) async fn start_as(&self, id: NodeId, config: RaftClusterConfig) {
        let disk = self.disk(id);
        let links = self.network.links(id);
        let starts = async {
            let (log, driver) =
                SimMachine::open(id, &disk, &self.observer).map_err(|e| e.to_string())?;
            let parts = Parts { incarnation: log.incarnation(), log, driver };
            Node::start(config, parts, links).await.map_err(|e| e.to_string())
        };
        match starts.await {
            Ok(node) => {
                self.network.register(id, node.service());
                self.nodes().insert(id, node);
            }
            Err(error) => self.observer.violation(format!("node {id} does not start: {error}")),
        }
    }

    /// Starts the nodes that found the cluster; each of them founds it.
    pub(crate) async fn found(&self) {
        for id in VOTERS {
            self.start(id).await;
        }
        for id in VOTERS {
            let members = VOTERS.into_iter().map(|id| (id, member(id))).collect();
            let node = self.node(id);
            if let Some(node) = node
                && let Err(error) = node.bootstrap(members).await
            {
                self.observer.violation(format!("node {id} founds nothing: {error}"));
            }
        }
    }

    /// A node is gone from one moment to the next.
    pub(crate) fn crash(&self, id: NodeId) {
        self.network.unregister(id);
        let node = self.nodes().remove(&id);
        if let Some(node) = &node {
            self.check_running(node);
        }
        self.disk(id).crash();
        if let Some(node) = node {
            drop(SimRuntime::spawn(async move { node.shutdown().await }));
        }
    }

    /// A node that stopped by itself has found something wrong.
    fn check_running(&self, node: &Node) {
        if let Some(error) = node.stopped() {
            self.observer.violation(format!("node {}: {error}", node.id()));
        }
    }

    /// The disk of a node that crashed is replaced by an empty one.
    pub(crate) fn wipe(&self, id: NodeId) {
        self.wiped.fetch_add(1, Ordering::Relaxed);
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.disk(id);
    }

    /// Starts whoever does not run.
    pub(crate) async fn restart(&self, ids: impl IntoIterator<Item = NodeId>) {
        for id in ids {
            if self.node(id).is_none() {
                self.start(id).await;
            }
        }
    }

    /// Waits until a condition holds; whether it did in time.
    pub(crate) async fn until(&self, within: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let end = SimInstant::now() + within;
        while !holds() {
            if SimInstant::now() >= end {
                return false;
            }
            pass(Duration::from_millis(20)).await;
        }
        true
    }

    /// After everything is mended: somebody leads soon, all come to the same state.
    pub(crate) async fn settle(&self) {
        let election = config(1).election_timeout();
        let leads = || self.leader().is_some_and(|id| self.is_ready(id));
        if !self.until(election * 3, leads).await {
            self.observer.violation("nobody leads three election timeouts after all is mended");
        }
        if !self.until(election * 12, || self.is_equal()).await {
            let status: Vec<_> = self.nodes().values().map(|node| node.status()).collect();
            let shown: Vec<_> = status
                .iter()
                .map(|s| {
                    format!("{}: {:?} T{} {:?}/{:?}", s.id, s.role, s.term, s.applied, s.last_log)
                })
                .collect();
            self.observer.violation(format!("the nodes differ: {}", shown.join("; ")));
        }
        for node in self.nodes().values() {
            self.check_running(node);
        }
    }

    pub(crate) fn is_ready(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.leadership().borrow().is_ready)
    }

    /// Whether all members have applied the whole log and have one state.
    pub(crate) fn is_equal(&self) -> bool {
        let Some(leader) = self.leader().and_then(|id| self.node(id)) else { return false };
        let status = leader.status();
        let digest = leader.digest();
        status.applied == status.last_log
            && status.members.iter().all(|member| {
                self.node(member.id).is_some_and(|node| {
                    node.status().applied == status.applied && node.digest() == digest
                })
            })
    }

    /// The end: every node is shut down in order.
    pub(crate) async fn end(&self) {
        let nodes: Vec<_> = self.nodes().values().cloned().collect();
        for node in nodes {
            node.shutdown().await;
        }
        self.observer.finish();
    }
}
