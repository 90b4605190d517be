//! Nodes of one coordinator, each a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig};
use sheaf_retry::SystemClock;
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_testkit::{TempDir, free_port, wait_for_async};

use crate::harness::PATIENCE;
use crate::parts::{Part, uri};
use crate::remote::stubborn;

const TIMES: [&str; 4] = ["--election-timeout", "500ms", "--heartbeat-interval", "100ms"];

/// A node that does not answer is passed over soon.
const STEP: Duration = Duration::from_secs(2);

/// Processes that replicate one coordinator.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Part>,
    addresses: Vec<SocketAddr>,
    folder: TempDir,
    pool: ChannelPool,
    more: Vec<String>,
}

impl Cluster {
    /// So many nodes, which have found each other.
    pub(crate) async fn start(size: usize, words: &[&str]) -> Self {
        let reserved: Vec<_> = (0..size).map(|_| free_port().unwrap()).collect();
        let addresses: Vec<_> =
            reserved.into_iter().map(sheaf_testkit::ReservedPort::release).collect();
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
        let (folder, nodes) = (TempDir::new().unwrap(), Vec::new());
        let more = words.iter().map(|word| (*word).to_owned()).collect();
        let mut cluster = Cluster { nodes, addresses, folder, pool, more };
        for index in 0..size {
            let node = Part::start(&cluster.words(index, &[]));
            cluster.nodes.push(node);
        }
        cluster.leader().await;
        cluster
    }

    /// What a node is started with.
    pub(crate) fn words<'a>(&'a self, index: usize, extra: &[&'a str]) -> Vec<&'a str> {
        let leak = |text: String| -> &'a str { Box::leak(text.into_boxed_str()) };
        let peers = self.addresses.iter().enumerate();
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
        uri(self.addresses[index])
    }

    pub(crate) fn uris(&self) -> Vec<String> {
        (0..self.addresses.len()).map(|index| self.uri(index)).collect()
    }

    /// A client that goes on at another node where one does not answer.
    pub(crate) fn client(&self) -> RpcCoordinator {
        let options = RpcOptions { retry: stubborn(), deadline: STEP };
        let targets = self.uris().iter().map(|uri| uri.parse().unwrap()).collect();
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
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

    /// Waits until a node leads; which, by its place.
    pub(crate) async fn leader(&self) -> usize {
        let leads = async || {
            for index in 0..self.nodes.len() {
                let status = self.status(index, false).await;
                if status.is_some_and(|status| status["role"] == "leader") {
                    return Some(index);
                }
            }
            None
        };
        wait_for_async(PATIENCE, "a node to lead", leads).await.unwrap()
    }

    /// Ends a node with kill -9.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].stop();
    }

    pub(crate) fn start_again(&mut self, index: usize) {
        self.nodes[index].start_again();
    }

    /// Waits until every node has applied the same; the hash of the state.
    pub(crate) async fn agree(&self) -> String {
        let told = async || {
            let mut all = Vec::new();
            for index in 0..self.nodes.len() {
                let status = self.status(index, true).await?;
                all.push((status["applied"].clone(), status["digest"].clone()));
            }
            all.windows(2).all(|two| two[0].0 == two[1].0).then_some(all)
        };
        let all =
            wait_for_async(PATIENCE, "all nodes to have applied the same", told).await.unwrap();
        let digests: Vec<&Value> = all.iter().map(|(_, digest)| digest).collect();
        assert!(digests.windows(2).all(|two| two[0] == two[1]), "states differ: {all:?}");
        digests[0].as_str().unwrap().to_owned()
    }
}
