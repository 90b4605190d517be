//! Nodes of one coordinator, each a process of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, ClientSecurity};
use sheaf_retry::SystemClock;
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_testkit::{TempDir, free_port, wait_for_async};

use crate::harness::{PATIENCE, serve};
use crate::parts::{Launch, Part, start_again, uri};
use crate::remote::stubborn;

/// How long a leader may be silent, unless a test says something else.
pub(crate) const ELECTION: Duration = Duration::from_millis(500);
const TIMES: [&str; 4] = ["--election-timeout", "500ms", "--heartbeat-interval", "100ms"];

/// How long a node is watched, and how much it may write meanwhile.
const CALM: Duration = Duration::from_secs(1);
const CALM_LINES: usize = 150;

/// A node that does not answer is passed over soon.
const STEP: Duration = Duration::from_secs(2);

/// Processes that replicate one coordinator.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Part>,
    addresses: Vec<SocketAddr>,
    folder: TempDir,
    pool: ChannelPool,
    more: Vec<String>,
    /// The nodes that found it; others join.
    founders: usize,
    /// Nodes that nothing is asked of any more.
    gone: BTreeSet<usize>,
    security: ClientSecurity,
    /// Dropped behind the processes.
    _turn: MutexGuard<'static, ()>,
}

/// One cluster at a time: on a machine that is busy with others, heartbeats are late and
/// elections come that no fault has called for.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test has a cluster.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool(security: &ClientSecurity) -> ChannelPool {
    let config = ClientConfig { security: security.clone(), ..ClientConfig::default() };
    ChannelPool::new(config, SystemClock::shared())
}

/// So many free addresses of this machine.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let reserved: Vec<_> = (0..count).map(|_| free_port().unwrap()).collect();
    reserved.into_iter().map(sheaf_testkit::ReservedPort::release).collect()
}

/// As any process is started.
pub(crate) fn plainly() -> Launch {
    Arc::new(|words| serve(&[], words))
}

impl Cluster {
    /// So many nodes, which have found each other.
    pub(crate) async fn start(size: usize, words: &[&str]) -> Self {
        let mut cluster = Self::plan(size, free_addresses(size), words);
        cluster.launch_founders();
        cluster.leader().await;
        cluster
    }

    /// A cluster that so many nodes found, and no process yet; the addresses beyond those
    /// are of nodes that join.
    pub(crate) fn plan(founders: usize, addresses: Vec<SocketAddr>, words: &[&str]) -> Self {
        let turn = turn();
        let security = ClientSecurity::default();
        let pool = pool(&security);
        let (folder, nodes) = (TempDir::new().unwrap(), Vec::new());
        let more = words.iter().map(|word| (*word).to_owned()).collect();
        let gone = BTreeSet::new();
        Cluster { nodes, addresses, folder, pool, more, founders, gone, security, _turn: turn }
    }

    /// Its nodes are asked over TLS.
    pub(crate) fn secured(mut self, security: ClientSecurity) -> Self {
        self.pool = pool(&security);
        self.security = security;
        self
    }

    /// Starts those that found it.
    pub(crate) fn launch_founders(&mut self) {
        for _ in 0..self.founders {
            self.launch(plainly());
        }
    }

    /// Starts the next node, which listens then; its place.
    pub(crate) fn launch(&mut self, launch: Launch) -> usize {
        let index = self.nodes.len();
        let join: &[&str] = if index < self.founders { &[] } else { &["--join"] };
        let node = Part::start_by(launch, &self.words(index, join));
        self.nodes.push(node);
        index
    }

    /// What a node is started with.
    pub(crate) fn words<'a>(&'a self, index: usize, extra: &[&'a str]) -> Vec<&'a str> {
        let leak = |text: String| -> &'a str { Box::leak(text.into_boxed_str()) };
        let peers = self.addresses.iter().enumerate();
        let peers = peers.filter(|(at, _)| *at < self.founders || *at == index);
        let peers: Vec<String> =
            peers.map(|(at, address)| format!("{}={address}", at + 1)).collect();
        let data = self.data(index);
        let mut words = vec!["--mode", "coordinator", "--coordinator", "raft", "--node-id"];
        words.push(leak((index + 1).to_string()));
        words.extend(["--peers", leak(peers.join(",")), "--data-dir"]);
        words.push(leak(data.to_str().unwrap().to_owned()));
        words.extend(["--flight-addr", leak(self.addresses[index].to_string())]);
        words.extend(TIMES);
        words.extend(self.more.iter().map(String::as_str));
        words.extend(extra);
        words
    }

    /// Where a node keeps what it has.
    pub(crate) fn data(&self, index: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("node-{}", index + 1))
    }

    pub(crate) fn uri(&self, index: usize) -> String {
        match self.security.ca {
            Some(_) => format!("grpc+tls://{}", self.addresses[index]),
            None => uri(self.addresses[index]),
        }
    }

    pub(crate) fn uris(&self) -> Vec<String> {
        (0..self.addresses.len()).map(|index| self.uri(index)).collect()
    }

    /// A client that goes on at another node where one does not answer.
    pub(crate) fn client(&self) -> RpcCoordinator {
        self.client_of(&self.uris())
    }

    /// A client of these nodes only.
    pub(crate) fn client_of(&self, uris: &[String]) -> RpcCoordinator {
        let options = RpcOptions { retry: stubborn(), deadline: STEP };
        let targets = uris.iter().map(|uri| uri.parse().unwrap()).collect();
        let pool = pool(&self.security);
        RpcCoordinator::replicated(pool, targets, options, SystemClock::shared()).unwrap()
    }

    /// What a node says of itself and its cluster, where it answers.
    pub(crate) async fn status(&self, index: usize, digest: bool) -> Option<Value> {
        let connection = self.pool.connection(&self.uri(index)).unwrap();
        let body = format!("{{\"digest\": {digest}}}");
        let options = CallOptions::default().deadline(STEP);
        let answer = connection.action("RaftStatus", body.into(), &options).await.ok()?;
        serde_json::from_slice(&answer[0]).ok()
    }

    /// The nodes that are asked.
    pub(crate) fn asked(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| !self.gone.contains(index)).collect()
    }

    /// From now on nothing is asked of a node: it is out of the cluster, or does not start.
    pub(crate) fn leave_out(&mut self, index: usize) {
        self.gone.insert(index);
    }

    /// Waits until a node leads; which, by its place.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_among(&self.asked()).await
    }

    /// Waits until one of these leads, the newest of those that say so.
    pub(crate) async fn leader_among(&self, nodes: &[usize]) -> usize {
        let found = wait_for_async(PATIENCE, "a node to lead", || self.leads(nodes)).await;
        found.unwrap_or_else(|error| panic!("{error}: {}", self.last_words())).0
    }

    /// Who of these leads, and in which term; the newest of those that say so.
    pub(crate) async fn leads(&self, nodes: &[usize]) -> Option<(usize, u64)> {
        let statuses =
            nodes.iter().map(|&index| async move { (index, self.status(index, false).await) });
        let statuses = futures::future::join_all(statuses).await;
        let leaders = statuses.into_iter().filter_map(|(index, status)| {
            let status = status.filter(|status| status["role"] == "leader")?;
            Some((index, status["term"].as_u64()?))
        });
        leaders.max_by_key(|(_, term)| *term)
    }

    /// The term that a node knows of.
    pub(crate) async fn term(&self, index: usize) -> u64 {
        let status = wait_for_async(PATIENCE, "an answer", || self.status(index, false)).await;
        status.unwrap()["term"].as_u64().unwrap()
    }

    /// Ends a node with kill -9.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].stop();
    }

    pub(crate) fn start_again(&mut self, index: usize) {
        self.nodes[index].start_again();
    }

    /// Ends all nodes with kill -9, and starts them.
    pub(crate) fn kill_all(&mut self, between: impl FnOnce(&Self)) {
        self.nodes.iter_mut().for_each(Part::stop);
        between(self);
        start_again(&mut self.nodes.iter_mut().collect::<Vec<_>>());
    }

    /// Waits until every node has applied the same; the hash of the state.
    pub(crate) async fn agree(&self) -> String {
        let last = std::cell::RefCell::new(Vec::new());
        let told = async || {
            let mut all = Vec::new();
            for index in self.asked() {
                let status = self.status(index, true).await?;
                all.push((status["applied"].clone(), status["digest"].clone()));
            }
            last.borrow_mut().clone_from(&all);
            all.windows(2).all(|two| two[0].0 == two[1].0).then_some(all)
        };
        // To hash a large state takes its time in a build for tests.
        let all = wait_for_async(5 * PATIENCE, "all nodes to have applied the same", told).await;
        let all = all.unwrap_or_else(|error| {
            panic!("{error}: at last {:?}: {}", last.borrow(), self.last_words())
        });
        let digests: Vec<&Value> = all.iter().map(|(_, digest)| digest).collect();
        assert!(digests.windows(2).all(|two| two[0] == two[1]), "states differ: {all:?}");
        digests[0].as_str().unwrap().to_owned()
    }

    /// A node that others are not there for tries them again, but not without end: neither
    /// its log nor its processor is full of it.
    pub(crate) async fn assert_calm(&self, index: usize) {
        let path = self.nodes[index].process.stderr_path();
        let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
        let before = lines();
        // sleep: this is what is measured.
        SystemClock::shared().sleep(CALM).await;
        let after = lines() - before;
        eprintln!("node {} wrote {after} lines in {CALM:?}", index + 1);
        assert!(after < CALM_LINES, "{after} lines in {CALM:?}: {}", self.last_words());
    }

    /// The end of what each node wrote, for whoever looks into a failure.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let log = node.process.stderr();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(12)..].join("\n");
            words.push_str(&format!("\nnode {}:\n{last}", index + 1));
        }
        words
    }
}
