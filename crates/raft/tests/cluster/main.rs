//! Three nodes in this process, each with its disk and its port, over Arrow Flight.

#![allow(clippy::unwrap_used, reason = "a test ends with what it did not expect")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::machine::{Applied, MachineError, StateMachine};
use sheaf_raft::node::{ChangeError, RaftNode, RaftServer};
use sheaf_raft::replica::{Error, Replica as _};
use sheaf_raft::types::{Member, NodeId};
use tempfile::TempDir;

#[path = "../registers/mod.rs"]
mod registers;

use registers::{Ask, Registers, Said};

type Node = RaftNode<Registers>;

/// Long, as the machine may have much else to do.
const DEADLINE: Duration = Duration::from_secs(90);

/// Servers that share addresses.
struct Cluster {
    config: RaftClusterConfig,
    directories: BTreeMap<NodeId, TempDir>,
    servers: BTreeMap<NodeId, RaftServer<Registers>>,
}

fn address() -> String {
    sheaf_testkit::free_port().unwrap().release().to_string()
}

/// Starts a node, once the one before has let go of its directory and its port.
async fn started(config: RaftClusterConfig, directory: &Path) -> (RaftServer<Registers>, Node) {
    for _ in 0..500 {
        let mut server = RaftServer::new(Registers::default(), directory);
        server.initialize(config.clone()).unwrap();
        match server.start().await {
            Ok(node) => return (server, node),
            Err(error) if error.to_string().contains("in use") => {
                // sleep: between two attempts, whose number is limited.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("what it needs stays in use");
}

impl Cluster {
    async fn start(change: impl Fn(&mut RaftClusterConfig)) -> Self {
        let mut config = RaftClusterConfig::new("test-cluster", 1);
        for id in 1..=3 {
            config = config.node(id, address());
        }
        config.forward_proposals = true;
        change(&mut config);
        let (directories, servers) = (BTreeMap::new(), BTreeMap::new());
        let mut cluster = Cluster { config, directories, servers };
        for id in 1..=3 {
            cluster.start_node(id).await;
        }
        cluster
    }

    async fn start_node(&mut self, id: NodeId) -> Node {
        let config = RaftClusterConfig { node_id: id, ..self.config.clone() };
        self.start_as(config).await
    }

    async fn start_as(&mut self, config: RaftClusterConfig) -> Node {
        let id = config.node_id;
        let directory = self.directories.entry(id).or_insert_with(|| TempDir::new().unwrap());
        let (server, node) = started(config, directory.path()).await;
        self.servers.insert(id, server);
        node
    }

    async fn stop(&mut self, id: NodeId) {
        if let Some(mut server) = self.servers.remove(&id) {
            server.shutdown().await;
        }
    }

    async fn stop_all(mut self) {
        for server in self.servers.values_mut() {
            server.shutdown().await;
        }
    }

    fn nodes(&self) -> Vec<Node> {
        self.servers.values().filter_map(|server| server.node().cloned()).collect()
    }

    /// A node that leads and has the whole state.
    async fn leader(&self) -> Node {
        let mut leader = None;
        until("somebody leads", || {
            leader = self.nodes().into_iter().find(|node| node.leadership().borrow().is_ready);
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// Waits until all have applied the same and have the same state.
    async fn settle(&self) {
        until("all nodes are equal", || {
            let states: Vec<_> =
                self.nodes().iter().map(|n| (n.status().applied, n.digest())).collect();
            states.windows(2).all(|pair| pair[0] == pair[1])
        })
        .await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            // sleep: between two looks at the condition, which has a deadline.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not in time: {what}");
}

async fn write(node: &Node, key: u64, value: u64) -> Result<Said, Error> {
    let command = Ask::Write { key, value }.command(value);
    Ok(Said::read(&node.propose(command).await?))
}

async fn write_many(node: &Node, values: std::ops::Range<u64>) {
    let writes = stream::iter(values).map(|value| write(node, value, value + 1));
    let said: Vec<Said> = writes.buffer_unordered(256).try_collect().await.unwrap();
    assert!(said.iter().all(|said| *said == Said::Done));
}

fn value(node: &Node, key: u64) -> u64 {
    let mut value = 0;
    node.with_machine(&mut |registers| value = registers.value(key));
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_commands_survive_their_leader() {
    let mut cluster = Cluster::start(|_| {}).await;
    let first = cluster.leader().await;
    write_many(&first, 0..10_000).await;
    let term = first.status().term;
    cluster.stop(first.id()).await;
    assert!(first.stopped().is_some());
    assert!(matches!(write(&first, 1, 1).await, Err(Error::Stopped { .. })));

    let second = cluster.leader().await;
    assert_ne!(second.id(), first.id());
    assert!(second.status().term > term);
    second.read_barrier().await.unwrap();
    for key in 0..10_000 {
        assert_eq!(value(&second, key), key + 1);
    }
    write_many(&second, 10_000..10_100).await;
    let term = second.status().term;

    let again = cluster.start_node(first.id()).await;
    until("the node that was away has everything", || value(&again, 10_099) == 10_100).await;
    cluster.settle().await;
    assert_eq!(cluster.leader().await.status().term, term, "the node that came back disturbed");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_node_is_brought_up_by_a_snapshot_and_gets_a_vote() {
    let mut cluster = Cluster::start(|config| {
        config.snapshot_distance = 500;
        config.kept_entries = 50;
    })
    .await;
    let leader = cluster.leader().await;
    write_many(&leader, 0..3_000).await;
    until("the leader purged its log", || leader.status().purged > Some(1_000)).await;

    let new = address();
    let config = RaftClusterConfig { node_id: 4, ..cluster.config.clone() };
    let config = RaftClusterConfig { node_endpoints: BTreeMap::new(), ..config }.node(4, &new);
    let mut server = RaftServer::new(Registers::default(), tempfile::tempdir().unwrap().keep());
    server.initialize(config).unwrap();
    let node = server.join().await.unwrap();
    assert_eq!(node.status().last_log, None, "it founded a cluster of its own");

    let member = Member::new(vec![new]);
    leader.add_learner(4, member).await.unwrap();
    until("it has everything", || value(&node, 2_999) == 3_000).await;
    assert!(node.status().purged.is_some(), "it came by entries, and by no snapshot");
    until("it may have a vote", || {
        let status = leader.status();
        status.members.iter().any(|member| member.id == 4 && member.lag < Some(100))
    })
    .await;
    leader.promote(4).await.unwrap();
    assert_eq!(leader.status().members.iter().filter(|member| member.is_voter).count(), 4);
    leader.transfer_leader(4).await.unwrap();
    until("it leads", || node.leadership().borrow().is_ready).await;
    write_many(&node, 3_000..3_100).await;
    cluster.servers.insert(4, server);
    cluster.settle().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_passes_commands_on_and_reads_what_was_written() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> =
        cluster.nodes().into_iter().filter(|node| node.id() != leader.id()).collect();
    for follower in &followers {
        follower.wait_for_leader().await.unwrap();
    }
    for round in 1..200 {
        let (one, other) = (&followers[0], &followers[1]);
        assert_eq!(write(one, 7, round).await.unwrap(), Said::Done);
        other.read_barrier().await.unwrap();
        assert_eq!(value(other, 7), round);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_takes_no_forwarded_commands_refuses_them() {
    let mut config = RaftClusterConfig::new("test-cluster", 1);
    for id in 1..=3 {
        config = config.node(id, address());
    }
    let (directories, servers) = (BTreeMap::new(), BTreeMap::new());
    let mut cluster = Cluster { config, directories, servers };
    for id in 1..=3 {
        let forward_proposals = id == 3;
        let config = cluster.config.clone();
        cluster.start_as(RaftClusterConfig { node_id: id, forward_proposals, ..config }).await;
    }
    let leader = cluster.leader().await;
    if leader.id() == 3 {
        leader.transfer_leader(1).await.unwrap();
    }
    let follower = cluster.servers[&3].node().cloned().unwrap();
    let leads_elsewhere =
        || follower.leadership().borrow().leader.as_ref().is_some_and(|(id, _)| *id != 3);
    until("another node leads", leads_elsewhere).await;
    let refused = write(&follower, 1, 1).await;
    assert!(matches!(refused, Err(Error::NotLeader { .. })), "{refused:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_of_another_cluster_is_refused() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let foreign = address();
    let config = RaftClusterConfig::new("another-cluster", 4).node(4, &foreign);
    let directory = tempfile::tempdir().unwrap();
    let mut server = RaftServer::new(Registers::default(), directory.path());
    server.initialize(config).unwrap();
    let node = server.start().await.unwrap();
    node.wait_for_leader().await.unwrap();
    let member = Member::new(vec![foreign.clone()]);
    let refused = leader.add_learner(4, member).await.unwrap_err().to_string();
    let wanted = format!("node 4 at {foreign} does not answer; start it first");
    assert_eq!(refused, wanted);
    assert_eq!(leader.status().members.len(), 3);
    server.shutdown().await;

    // Its directory is of that cluster, too.
    let ours = RaftClusterConfig::new("test-cluster", 4).node(4, &foreign);
    let mut refused = String::from("in use");
    // The last task of the node that was has the lock for a moment longer.
    for _ in 0..500 {
        let mut server = RaftServer::new(Registers::default(), directory.path());
        server.initialize(ours.clone()).unwrap();
        refused = server.start().await.unwrap_err().to_string();
        if !refused.contains("in use") {
            break;
        }
        // sleep: between two attempts, whose number is limited.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused.contains("another-cluster"), "{refused}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said_before_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = RaftServer::new(Registers::default(), directory.path());
    let early = server.start().await.unwrap_err().to_string();
    assert!(early.contains("call `initialize` first"), "{early}");
    // It is the same server that starts afterwards: its state machine is still there.
    server.initialize(RaftClusterConfig::new("a", 1).node(1, address())).unwrap();
    server.start().await.unwrap().wait_for_leader().await.unwrap();
    server.shutdown().await;
    let mut server = RaftServer::new(Registers::default(), directory.path());
    let mut config = RaftClusterConfig::new("a", 1);
    config.enable_ssl = true;
    let problems = server.initialize(config).unwrap_err();
    let fields: Vec<_> = problems.0.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["node_endpoints", "enable_ssl"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_different_member_lists_found_no_cluster() {
    let (one, two, three) = (address(), address(), address());
    let of_two = RaftClusterConfig::new("a", 1).node(1, &one).node(2, &two);
    let mut of_three = of_two.clone().node(3, &three);
    of_three.node_id = 2;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = RaftServer::new(Registers::default(), directories[0].path());
    first.initialize(of_two).unwrap();
    let node = first.start().await.unwrap();
    let mut second = RaftServer::new(Registers::default(), directories[1].path());
    second.initialize(of_three).unwrap();
    let refused = second.start().await.unwrap_err().to_string();
    assert!(refused.contains("node 1 would found a cluster of other members"), "{refused}");
    assert_eq!(node.status().last_log, None);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_node_is_known_to_every_leader_and_its_connections_are_closed() {
    let mut cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let peers = |cluster: &Cluster, id: NodeId| {
        cluster.servers[&id].transport_of().map(|transport| transport.peers()).unwrap()
    };
    let silent = Member::new(vec![address()]);
    assert!(leader.add_learner(8, silent).await.is_err());
    assert!(!peers(&cluster, leader.id()).contains(&8));

    let config = RaftClusterConfig { node_id: 4, ..cluster.config.clone() };
    let config = RaftClusterConfig { node_endpoints: BTreeMap::new(), ..config };
    let new = address();
    let directory = tempfile::tempdir().unwrap();
    let mut server = RaftServer::new(Registers::default(), directory.path());
    server.initialize(config.node(4, &new)).unwrap();
    server.join().await.unwrap();
    let member = Member::new(vec![new]);
    leader.add_learner(4, member.clone()).await.unwrap();
    leader.remove(4).await.unwrap();
    until("the leader forgot it", || !peers(&cluster, leader.id()).contains(&4)).await;
    server.shutdown().await;

    // Another process leads, which was not asked to remove it.
    let next = cluster.nodes().into_iter().find(|node| node.id() != leader.id()).unwrap().id();
    cluster.stop(next).await;
    let restarted = cluster.start_node(next).await;
    until("it is a follower", || restarted.status().leader.is_some()).await;
    leader.transfer_leader(next).await.unwrap();
    until("it leads", || restarted.leadership().borrow().is_ready).await;
    let refused = restarted.add_learner(4, member).await.unwrap_err().to_string();
    assert_eq!(refused, "node 4 was removed, and an id is never given twice; choose another");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_there_when_it_is_said_to_be_and_the_one_before_takes_its_place() {
    let config = RaftClusterConfig::new("a", 1).node(1, address());
    let directory = tempfile::tempdir().unwrap();
    let mut server = RaftServer::new(Registers::default(), directory.path());
    server.initialize(config.clone()).unwrap();
    let node = server.start().await.unwrap();
    node.wait_for_leader().await.unwrap();
    // With the defaults: three snapshots by themselves, of which two are kept.
    for part in 0..32 {
        write_many(&node, part * 1_000..(part + 1) * 1_000).await;
    }
    let applied = node.status().applied;
    node.snapshot().await.unwrap();
    assert!(node.status().snapshot >= applied, "{:?} of {applied:?}", node.status().snapshot);
    server.shutdown().await;

    let files = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "arrow"));
    files.sort();
    assert_eq!(files.len(), 2);
    let mut bytes = std::fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    let (mut again, node) = started(config, directory.path()).await;
    until("it leads", || node.leadership().borrow().is_ready).await;
    assert!((0..32_000).all(|key| value(&node, key) == key + 1));
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_large_entries_is_kept_small_and_shown() {
    let config = RaftClusterConfig::new("a", 1).node(1, address());
    let directory = tempfile::tempdir().unwrap();
    let (mut server, node) = started(config, directory.path()).await;
    until("it leads", || node.leadership().borrow().is_ready).await;
    let bytes = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let size = {
        let bytes = Arc::clone(&bytes);
        move || bytes.load(std::sync::atomic::Ordering::Relaxed)
    };
    let keeping = tokio::spawn(node.clone().keep_log_small(size, 100));
    write_many(&node, 0..10).await;
    assert_eq!(node.status().snapshot, None, "it is small");
    let mut purged = Vec::new();
    for round in 1..4 {
        bytes.store(round * 100, std::sync::atomic::Ordering::Relaxed);
        let before = node.status().snapshot;
        write_many(&node, round * 10..round * 10 + 10).await;
        until("a snapshot", || node.status().snapshot > before).await;
        until("the entries before the last one to go", || node.status().purged == before).await;
        purged.push(before);
    }
    assert!(purged[2] > purged[1] && purged[1] > purged[0], "{purged:?}");
    let mut registry = prometheus_client::registry::Registry::default();
    node.register_metrics(&mut registry, || 77);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["sheaf_raft_is_leader 1", "sheaf_raft_log_bytes 77", "sheaf_raft_term 1"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    server.shutdown().await;
    keeping.await.unwrap();
}

/// Its snapshots take longer than anybody waits for one.
struct Slow(Registers);

const SLOW: Duration = Duration::from_millis(1_500);

impl StateMachine for Slow {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        self.0.apply(entry)
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.0.begin_snapshot()
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let part = self.0.snapshot_part()?;
        if part.is_some() {
            // sleep: it is more than twenty election timeouts.
            std::thread::sleep(SLOW);
        }
        Ok(part)
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        self.0.restore(batches)
    }

    fn digest(&mut self) -> u64 {
        self.0.digest()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_kept_small_also_where_snapshots_take_long() {
    let mut config = RaftClusterConfig::new("a", 1).node(1, address());
    (config.election_timeout_ms, config.heartbeat_interval_ms) = (60, 15);
    let directory = tempfile::tempdir().unwrap();
    let mut server = RaftServer::new(Slow(Registers::default()), directory.path());
    server.initialize(config).unwrap();
    let node = server.start().await.unwrap();
    until("it leads", || node.leadership().borrow().is_ready).await;
    assert!(matches!(node.snapshot().await, Err(ChangeError::Late { .. })));
    until("it to be there all the same", || node.status().snapshot.is_some()).await;
    let bytes = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let size = {
        let bytes = Arc::clone(&bytes);
        move || bytes.load(std::sync::atomic::Ordering::Relaxed)
    };
    let keeping = tokio::spawn(node.clone().keep_log_small(size, 100));
    let mut snapshots = vec![node.status().snapshot];
    for round in 1..4 {
        bytes.store(round * 100, std::sync::atomic::Ordering::Relaxed);
        node.propose(Ask::Write { key: 1, value: round }.command(round)).await.unwrap();
        let before = node.status().snapshot;
        until("a snapshot", || node.status().snapshot > before).await;
        snapshots.push(node.status().snapshot);
    }
    until("the entries that two have to go", || node.status().purged >= snapshots[1]).await;
    assert!(node.status().purged < snapshots[3], "the one before the newest has to do, too");
    server.shutdown().await;
    keeping.await.unwrap();
}
