//! The coordinator that several processes replicate among themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

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
/// Longest name of a cluster.
const MAX_CLUSTER: usize = 128;

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
    if heartbeat_interval * 2 > election_timeout {
        let message = "is more than half of --election-timeout: one lost heartbeat would call \
                       for an election";
        reader.wrong("heartbeat-interval", message.to_owned());
        return None;
    }
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
    Some(RaftConfig {
        node,
        peers,
        cluster,
        is_joining: is_joining?,
        election_timeout,
        heartbeat_interval,
        snapshot_distance: snapshot_distance?,
    })
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
    let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if letters && text.len() <= MAX_CLUSTER {
        return Some(text.to_owned());
    }
    let message =
        format!("{text:?} is no name: write 1 to {MAX_CLUSTER} letters, digits and . _ -");
    reader.wrong("cluster-id", message);
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
