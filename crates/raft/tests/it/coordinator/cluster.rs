//! Three nodes of this process, each with its disk, its port and its coordinator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::Coordinator;
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_raft::apply::Machine;
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::coordinator::{Config, EngineMachine, RaftCoordinator, RpcForward};
use sheaf_raft::log::{self, Identity, LogStore};
use sheaf_raft::node::{Parts, RaftNode};
use sheaf_raft::replica::Replica as _;
use sheaf_raft::snapshot::{self, Snapshots};
use sheaf_raft::types::{Member, NodeId};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_rpc::{CoordinatorService, RpcCoordinator, RpcOptions};
use tokio::sync::Mutex;

use super::links::{From, Net};

type Node = RaftNode<EngineMachine>;

/// One node that runs.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) coordinator: RaftCoordinator<Node>,
    server: ServerHandle,
}

/// See the module.
pub(crate) struct Cluster {
    net: Arc<Net>,
    home: tempfile::TempDir,
    members: BTreeMap<NodeId, Member>,
    running: Mutex<BTreeMap<NodeId, Running>>,
    snapshot_distance: u64,
}

/// Long enough for machines that do much else.
const LONG: Duration = Duration::from_secs(60);

impl Cluster {
    /// Three nodes, one of which leads.
    pub(crate) async fn start(snapshot_distance: u64) -> Arc<Self> {
        let listeners: Vec<Listener> = (0..3)
            .map(|_| Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap())
            .collect();
        let member = |listener: &Listener| Member { endpoints: vec![listener.local_addr().to_string()] };
        let members = (1..).zip(listeners.iter().map(member)).collect();
        let cluster = Arc::new(Cluster {
            net: Arc::default(),
            home: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            members,
            running: Mutex::default(),
            snapshot_distance,
        });
        for (id, listener) in (1..).zip(listeners) {
            cluster.run(id, listener).await;
        }
        cluster.leader().await;
        cluster
    }

    fn path(&self, id: NodeId, what: &str) -> PathBuf {
        self.home.path().join(format!("{what}{id}"))
    }

    async fn run(&self, id: NodeId, listener: Listener) {
        let mut config = RaftClusterConfig::new("test", id);
        config.election_timeout_ms = 600;
        config.heartbeat_interval_ms = 100;
        config.snapshot_distance = self.snapshot_distance;
        config.kept_entries = self.snapshot_distance / 4;
        config.max_command_bytes = 8 << 20;
        for (id, member) in &self.members {
            config = config.node(*id, member.endpoints[0].clone());
        }
        let identity = Identity { cluster: "test".to_owned(), node: id };
        let log = self.log(id, &identity).await;
        let snapshots = self.path(id, "snapshots");
        let snapshots = Snapshots::open(&snapshots, "test", snapshot::Options::default()).unwrap();
        let driver = Machine::new(EngineMachine::new(), snapshots, &log).unwrap();
        let links = Arc::new(From { node: id, net: Arc::clone(&self.net) });
        let node = Node::start(config, Parts { log, driver }, links).await.unwrap();
        let node = Arc::new(node);
        self.net.add(id, node.service());
        node.bootstrap(self.members.clone()).await.unwrap();
        let clock = SystemClock::shared();
        let forward = RpcForward::new(ClientConfig::default(), clock.clone());
        let config = Config { patience: LONG, ..Config::new(id) };
        let forward = Arc::new(forward.with_deadline(Duration::from_secs(2)));
        let coordinator = RaftCoordinator::start(Arc::clone(&node), config, forward, clock);
        let service = CoordinatorService::new(Arc::new(coordinator.clone()))
            .with_last_hop(Arc::new(coordinator.last_hop()));
        let router = FlightRouter::builder().build().unwrap();
        let server = Server::new(router)
            .add_service(service.into_server())
            .serve(listener)
            .await
            .unwrap();
        let running = Running { node, coordinator, server };
        self.running.lock().await.insert(id, running);
    }

    /// The log; what had it open before may still be closing it.
    async fn log(&self, id: NodeId, identity: &Identity) -> LogStore {
        let path = self.path(id, "log");
        let mut opened = None;
        sheaf_testkit::wait_until_async(LONG, "the log is free", || {
            match LogStore::open(&path, identity, log::Options::default()) {
                Ok(log) => opened = Some(log),
                Err(log::Error::Locked { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            std::future::ready(opened.is_some())
        })
        .await
        .unwrap();
        opened.unwrap()
    }

    /// Takes a node down: nothing of it is left but its disk.
    pub(crate) async fn stop(&self, id: NodeId) {
        let Some(running) = self.running.lock().await.remove(&id) else { return };
        self.net.remove(id);
        running.node.shutdown().await;
        running.coordinator.close().await;
        running.server.drain(Duration::ZERO).await;
    }

    /// Brings a node back on its disk.
    pub(crate) async fn restart(&self, id: NodeId) {
        let address = self.members[&id].endpoints[0].clone();
        let listener = Listener::bind(&address, "--flight-addr", Exposure::Loopback).unwrap();
        self.run(id, listener).await;
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
        self.members.keys().copied().find(|id| *id != leader).unwrap()
    }

    /// A client of one node, which tries again while the node is away.
    pub(crate) fn client(&self, id: NodeId) -> Arc<dyn Coordinator> {
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
        let target = self.members[&id].endpoints[0].parse().unwrap();
        let options = RpcOptions {
            deadline: LONG,
            retry: RetryPolicy {
                max_retries: 10_000,
                base_ms: 20,
                factor: 1.0,
                cap_ms: 20,
                jitter: 0.0,
                deadline_ms: None,
            },
        };
        Arc::new(RpcCoordinator::new(pool, target, options, SystemClock::shared()))
    }

    /// Waits until all nodes are at the same place, and have the same state there.
    pub(crate) async fn agree(&self) -> u64 {
        let mut digest = 0;
        sheaf_testkit::wait_until_async(LONG, "all have the same state", || async {
            let running = self.running.lock().await;
            let applied: Vec<u64> = running.values().map(|one| *one.node.applied().borrow()).collect();
            let digests: Vec<u64> = running.values().map(|one| one.node.digest()).collect();
            let still: Vec<u64> = running.values().map(|one| *one.node.applied().borrow()).collect();
            let at_rest = applied == still && applied.iter().all(|index| *index == applied[0]);
            if at_rest {
                assert!(digests.iter().all(|one| *one == digests[0]), "at {applied:?}: {digests:?}");
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
        for id in self.members.keys() {
            self.stop(*id).await;
        }
    }
}
