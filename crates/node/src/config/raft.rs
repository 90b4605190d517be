//! The coordinator that several processes replicate among themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sheaf_raft::config::RaftClusterConfig;

use super::address::HostPort;
use super::reader::Reader;
use super::security::{self, SecurityConfig};

/// Settings that belong to Raft.
const OF_RAFT: [&str; 7] = [
    "node-id",
    "peers",
    "cluster-id",
    "join",
    "election-timeout",
    "heartbeat-interval",
    "snapshot-distance",
];

const DEFAULT_CLUSTER: &str = "sheaf";
const DEFAULT_ELECTION: &str = "1500ms";
const DEFAULT_HEARTBEAT: &str = "300ms";
const DEFAULT_SNAPSHOT: &str = "10000";
/// Most nodes of one cluster, and addresses of one node.
const MAX_NODES: usize = 32;
const MAX_ADDRESSES: usize = 8;
/// The longest command: a register call may be large.
const MAX_COMMAND_BYTES: u64 = 8 << 20;

/// One node of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftConfig {
    node: u64,
    peers: BTreeMap<u64, Vec<HostPort>>,
    cluster: String,
    is_joining: bool,
    election_timeout: Duration,
    heartbeat_interval: Duration,
    snapshot_distance: u64,
}

impl RaftConfig {
    /// Names this node.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Every node with its addresses, this one too; each has one at least.
    pub fn peers(&self) -> &BTreeMap<u64, Vec<HostPort>> {
        &self.peers
    }

    /// Where the others reach this node.
    pub fn own(&self) -> &HostPort {
        &self.peers[&self.node][0]
    }

    /// Names the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whether it waits to be added, and does not found a cluster.
    pub fn is_joining(&self) -> bool {
        self.is_joining
    }

    /// How long a leader may be silent before another is elected.
    pub fn election_timeout(&self) -> Duration {
        self.election_timeout
    }

    /// How often a leader is heard at least.
    pub fn heartbeat_interval(&self) -> Duration {
        self.heartbeat_interval
    }

    /// Entries of the log between two snapshots.
    pub fn snapshot_distance(&self) -> u64 {
        self.snapshot_distance
    }

    /// The same as a node takes it.
    pub(crate) fn cluster_config(&self) -> RaftClusterConfig {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut cluster = RaftClusterConfig::new(self.cluster.as_str(), self.node);
        for (id, addresses) in &self.peers {
            for address in addresses {
                cluster = cluster.node(*id, address.uri());
            }
        }
        RaftClusterConfig {
            election_timeout_ms: millis(self.election_timeout),
            heartbeat_interval_ms: millis(self.heartbeat_interval),
            snapshot_distance: self.snapshot_distance,
            max_command_bytes: MAX_COMMAND_BYTES,
            ..cluster
        }
    }
}

impl fmt::Display for RaftConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of {} in cluster {}", self.node, self.peers.len(), self.cluster)
    }
}

/// Reads the settings of Raft; `None` where a problem was reported.
pub(super) fn read(reader: &mut Reader<'_>, security: &SecurityConfig) -> Option<RaftConfig> {
    let node = node_id(reader);
    let peers = peers(reader, security.has_tls());
    let cluster = cluster(reader);
    let election = duration(reader, "election-timeout", DEFAULT_ELECTION, 50..=600_000);
    let heartbeat = duration(reader, "heartbeat-interval", DEFAULT_HEARTBEAT, 10..=300_000);
    let snapshot_distance = snapshot_distance(reader);
    let (node, peers, cluster) = (node?, peers?, cluster?);
    let (election_timeout, heartbeat_interval) = (election?, heartbeat?);
    if !peers.contains_key(&node) {
        let message =
            format!("does not name this node: add {node}=HOST:PORT, where others reach it");
        reader.wrong("peers", message);
        return None;
    }
    for address in peers.iter().filter(|(id, _)| **id != node).flat_map(|(_, all)| all) {
        security::dial(reader, security, "peers", address);
    }
    let is_joining = reader.text("join");
    let is_joining = if is_joining.is_empty() { Some(false) } else { reader.switch("join") };
    let config = RaftConfig {
        node,
        peers,
        cluster,
        is_joining: is_joining?,
        election_timeout,
        heartbeat_interval,
        snapshot_distance: snapshot_distance?,
    };
    certificates(reader, security, &config);
    match config.cluster_config().validate() {
        Ok(_) => Some(config),
        Err(problems) => {
            for problem in problems.0 {
                let unit = if problem.field.ends_with("_ms") { "in ms, " } else { "" };
                reader.wrong(setting(problem.field), format!("{unit}{}", problem.message));
            }
            None
        }
    }
}

/// The setting that a field of a node's configuration comes from.
fn setting(field: &str) -> &'static str {
    match field {
        "cluster_id" => "cluster-id",
        "node_id" => "node-id",
        "heartbeat_interval_ms" => "heartbeat-interval",
        "election_timeout_ms" => "election-timeout",
        "snapshot_distance" => "snapshot-distance",
        _ => "peers",
    }
}

/// Whoever may speak as a node can change everything: beyond one machine a certificate
/// has to say that it is one.
fn certificates(reader: &mut Reader<'_>, security: &SecurityConfig, config: &RaftConfig) {
    let is_local = config.peers.values().flatten().all(HostPort::is_loopback);
    if is_local || security.client().insecure || security.server().client_ca.is_some() {
        return;
    }
    let message = "is missing: nodes on several machines know each other by certificates; give \
                   the CA of theirs, or add --insecure where the network is trusted";
    reader.wrong("tls-client-ca", message.to_owned());
}

/// Where this node listens unless it is said otherwise: where others reach it.
pub(super) fn own_address(reader: &Reader<'_>) -> Option<String> {
    if reader.text("coordinator") != "raft" {
        return None;
    }
    let node = reader.text("node-id");
    entries(reader.text("peers")).find_map(|entry| {
        let (id, address) = entry.split_once('=')?;
        (id.trim() == node).then(|| address.trim().to_owned())
    })
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn node_id(reader: &mut Reader<'_>) -> Option<u64> {
    let text = reader.text("node-id");
    match text.parse() {
        Ok(id) if id > 0 => Some(id),
        _ => {
            let message = match text {
                "" => "is missing: a node of a Raft cluster has a number that no other ever had"
                    .to_owned(),
                text => format!("{text:?} is no number of a node, from 1 on"),
            };
            reader.wrong("node-id", message);
            None
        }
    }
}

fn peers(reader: &mut Reader<'_>, tls: bool) -> Option<BTreeMap<u64, Vec<HostPort>>> {
    let mut peers: BTreeMap<u64, Vec<HostPort>> = BTreeMap::new();
    let (text, mut problems) = (reader.text("peers"), Vec::new());
    for entry in entries(text) {
        match peer(entry, tls) {
            Ok((id, address)) => {
                let taken = peers.iter().find(|(_, all)| all.contains(&address));
                match taken {
                    Some((other, _)) => problems.push(format!(
                        "{address} is there for node {other} and for node {id}; name each once"
                    )),
                    None => peers.entry(id).or_default().push(address),
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if text.trim().is_empty() {
        problems.push(
            "is missing: name every node of the cluster, such as 1=a:5001,2=b:5001,3=c:5001"
                .to_owned(),
        );
    }
    if peers.len() > MAX_NODES {
        problems.push(format!("{} nodes are over the limit of {MAX_NODES}", peers.len()));
    }
    if let Some((id, all)) = peers.iter().find(|(_, all)| all.len() > MAX_ADDRESSES) {
        let count = all.len();
        problems.push(format!("node {id} has {count} addresses, at most {MAX_ADDRESSES} are used"));
    }
    let is_fine = problems.is_empty();
    problems.into_iter().for_each(|problem| reader.wrong("peers", problem));
    is_fine.then_some(peers)
}

fn peer(entry: &str, tls: bool) -> Result<(u64, HostPort), String> {
    let wrong = || format!("{entry:?} is no node: write ID=HOST:PORT, such as 2=node2:5001");
    let (id, address) = entry.split_once('=').ok_or_else(wrong)?;
    let id: u64 = id.trim().parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
    let given = HostPort::from_uri(address.trim())?;
    if given.port == 0 {
        return Err(format!("node {id} has port 0, which nobody can dial"));
    }
    Ok((id, HostPort { tls: tls || given.tls, ..given }))
}

fn cluster(reader: &mut Reader<'_>) -> Option<String> {
    let text = match reader.text("cluster-id") {
        "" => DEFAULT_CLUSTER,
        text => text,
    };
    let Err(problems) = RaftClusterConfig::new(text, 1).validate() else {
        return Some(text.to_owned());
    };
    for problem in problems.0 {
        reader.wrong(setting(problem.field), problem.message);
    }
    None
}

fn duration(
    reader: &mut Reader<'_>,
    name: &str,
    default: &str,
    millis: std::ops::RangeInclusive<u64>,
) -> Option<Duration> {
    let range = Duration::from_millis(*millis.start())..=Duration::from_millis(*millis.end());
    reader.duration_or(name, default, range)
}

fn snapshot_distance(reader: &mut Reader<'_>) -> Option<u64> {
    let text = match reader.text("snapshot-distance") {
        "" => DEFAULT_SNAPSHOT,
        text => text,
    };
    match text.parse() {
        Ok(entries @ 100..=1_000_000_000) => Some(entries),
        _ => {
            let message = format!("{text:?} is no number of entries from 100 to 1000000000");
            reader.wrong("snapshot-distance", message);
            None
        }
    }
}

/// Reports settings of Raft where the coordinator is another one.
pub(super) fn without(reader: &mut Reader<'_>) {
    for name in OF_RAFT {
        if !reader.text(name).is_empty() {
            let message = "has no effect without Raft: add --coordinator raft, or remove it";
            reader.wrong(name, message.to_owned());
        }
    }
}

#[cfg(test)]
#[path = "raft_tests.rs"]
mod tests;
