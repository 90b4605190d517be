//! Three nodes of this process, each with its disk, its port and its coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Coordinator, Error};
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::coordinator::{Config, EngineMachine, Forward, RaftCoordinator, RpcForward};
use sheaf_raft::node::{RaftNode, RaftServer};
use sheaf_raft::replica::Replica as _;
use sheaf_raft::types::{Member, NodeId};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::{CoordinatorService, RpcCoordinator, RpcOptions};
use tokio::sync::Mutex;

type Node = RaftNode<EngineMachine>;

/// One node that runs.
struct Running {
    node: Arc<Node>,
    raft: RaftServer<EngineMachine>,
    coordinator: RaftCoordinator<Node>,
    server: ServerHandle,
}

/// See the module. Each node has a port for the other nodes, and one for callers.
pub(crate) struct Cluster {
    config: RaftClusterConfig,
    home: tempfile::TempDir,
    ports: BTreeMap<NodeId, String>,
    running: Mutex<BTreeMap<NodeId, Running>>,
}

/// Long enough for machines that do much else.
const LONG: Duration = Duration::from_secs(60);

/// To the ports for callers.
struct ToPorts {
    rpc: RpcForward,
    ports: BTreeMap<NodeId, String>,
}

impl Forward for ToPorts {
    fn to(&self, node: NodeId, _: &Member, attempt: u32) -> Result<Arc<dyn Coordinator>, Error> {
        let member = Member::new(vec![self.ports[&node].clone()]);
        self.rpc.to(node, &member, attempt)
    }
}

fn listen(address: &str) -> Listener {
    Listener::bind(address, "--flight-addr", Exposure::Loopback).unwrap()
}

/// A port that stays free while its node is down: the system gives those above to connections.
fn lasting() -> Listener {
    let ports = 15_000..32_000;
    let anywhere = || rand::random_range(ports.clone());
    let bind =
        |port| Listener::bind(&format!("127.0.0.1:{port}"), "--flight-addr", Exposure::Loopback);
    std::iter::repeat_with(anywhere).take(1_000).find_map(|port| bind(port).ok()).unwrap()
}

impl Cluster {
    /// Three nodes, one of which leads.
    pub(crate) async fn start(snapshot_distance: u64) -> Arc<Self> {
        let listeners: Vec<Listener> = (0..3).map(|_| lasting()).collect();
        let address = |listener: &Listener| listener.local_addr().to_string();
        let ports = (1..).zip(listeners.iter().map(address)).collect();
        let mut config = RaftClusterConfig::new("test", 1);
        config.election_timeout_ms = 600;
        config.heartbeat_interval_ms = 100;
        config.snapshot_distance = snapshot_distance;
        config.kept_entries = snapshot_distance / 4;
        config.max_command_bytes = 8 << 20;
        let raft: Vec<Listener> = (0..3).map(|_| lasting()).collect();
        for (id, listener) in (1..).zip(&raft) {
            config = config.node(id, address(listener));
        }
        drop(raft);
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let cluster = Arc::new(Cluster { config, home, ports, running: Mutex::default() });
        for (id, listener) in (1..).zip(listeners) {
            cluster.run(id, listener).await;
        }
        cluster.leader().await;
        cluster
    }

    async fn run(&self, id: NodeId, listener: Listener) {
        let directory = self.home.path().join(id.to_string());
        let mut raft = RaftServer::new(EngineMachine::new(), directory);
        raft.initialize(RaftClusterConfig { node_id: id, ..self.config.clone() }).unwrap();
        let node = Arc::new(raft.start().await.unwrap());
        let clock = SystemClock::shared();
        let rpc = RpcForward::new(ClientConfig::default(), clock.clone());
        let rpc = rpc.with_deadline(Duration::from_secs(2));
        let forward = Arc::new(ToPorts { rpc, ports: self.ports.clone() });
        let config = Config { patience: LONG, ..Config::new(id) };
        let coordinator = RaftCoordinator::start(Arc::clone(&node), config, forward, clock);
        let service = CoordinatorService::new(Arc::new(coordinator.clone()))
            .with_last_hop(Arc::new(coordinator.last_hop()));
        let router = FlightRouter::builder().build().unwrap();
        let server = Server::new(router).add_service(service.into_server());
        let server = server.serve(listener).await.unwrap();
        self.running.lock().await.insert(id, Running { node, raft, coordinator, server });
    }

    /// Takes a node down: nothing of it is left but its disk.
    pub(crate) async fn stop(&self, id: NodeId) {
        let Some(mut running) = self.running.lock().await.remove(&id) else { return };
        running.raft.shutdown().await;
        running.coordinator.close().await;
        running.server.drain(Duration::ZERO).await;
    }

    /// Brings a node back on its disk.
    pub(crate) async fn restart(&self, id: NodeId) {
        self.run(id, listen(&self.ports[&id])).await;
    }

    /// Which node leads, once one does.
    pub(crate) async fn leader(&self) -> NodeId {
        let mut found = None;
        sheaf_testkit::wait_until_async(LONG, "a node leads", || {
            let running = self.running.try_lock();
            if let Ok(running) = running {
                let leads = |(id, running): (&NodeId, &Running)| {
                    running.node.leadership().borrow().is_ready.then_some(*id)
                };
                found = running.iter().find_map(leads);
            }
            std::future::ready(found.is_some())
        })
        .await
        .unwrap();
        found.unwrap()
    }

    /// Some node that does not lead.
    pub(crate) async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        self.ports.keys().copied().find(|id| *id != leader).unwrap()
    }

    /// A client of one node, which is answered as the node answers.
    pub(crate) fn client(&self, id: NodeId) -> Arc<dyn Coordinator> {
        self.client_with(id, RetryPolicy::none())
    }

    /// A client of one node, which tries again while the node is away.
    pub(crate) fn patient_client(&self, id: NodeId) -> Arc<dyn Coordinator> {
        let retry = RetryPolicy {
            max_retries: 10_000,
            base_ms: 20,
            factor: 1.0,
            cap_ms: 20,
            jitter: 0.0,
            deadline_ms: None,
        };
        self.client_with(id, retry)
    }

    fn client_with(&self, id: NodeId, retry: RetryPolicy) -> Arc<dyn Coordinator> {
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
        let target = self.ports[&id].parse().unwrap();
        let options = RpcOptions { deadline: LONG, retry };
        Arc::new(RpcCoordinator::new(pool, target, options, SystemClock::shared()))
    }

    /// Waits until all nodes are at the same place, and have the same state there.
    pub(crate) async fn agree(&self) -> u64 {
        let mut digest = 0;
        sheaf_testkit::wait_until_async(LONG, "all have the same state", || async {
            let running = self.running.lock().await;
            let applied: Vec<u64> =
                running.values().map(|one| *one.node.applied().borrow()).collect();
            let digests: Vec<u64> = running.values().map(|one| one.node.digest()).collect();
            let still: Vec<u64> =
                running.values().map(|one| *one.node.applied().borrow()).collect();
            let at_rest = applied == still && applied.iter().all(|index| *index == applied[0]);
            if at_rest {
                assert!(
                    digests.iter().all(|one| *one == digests[0]),
                    "at {applied:?}: {digests:?}"
                );
            }
            at_rest && running.len() == 3
        })
        .await
        .unwrap();
        for one in self.running.lock().await.values() {
            digest = one.node.digest();
        }
        digest
    }

    pub(crate) async fn close(&self) {
        for id in self.ports.keys() {
            self.stop(*id).await;
        }
    }
}
