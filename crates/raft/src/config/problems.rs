//! What is wrong with a configuration.

use std::fmt;

use sheaf_retry::{Code, Retryable};

use super::RaftClusterConfig;

/// The longest name of a cluster: the transport takes no other.
const MAX_CLUSTER_ID: usize = 64;

/// The longest command that may be allowed, in bytes: a message on the wire is of 16 MiB.
const MAX_COMMAND_BYTES: u64 = 8 << 20;

/// The most nodes: each of them is asked in every election.
const MAX_NODES: usize = 64;

/// One value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Problem {
    /// The field as it is written.
    pub field: &'static str,
    /// The value, the limit, and what to write instead.
    pub message: String,
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Retryable for Problems {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// Every problem, in the order of the fields.
pub(super) fn of(config: &RaftClusterConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    nodes(config, &mut problems);
    times(config, &mut problems);
    limits(config, &mut problems);
    problems
}

fn nodes(config: &RaftClusterConfig, problems: &mut Vec<Problem>) {
    let mut wrong = |field, message: String| problems.push(Problem { field, message });
    let name = &config.cluster_id;
    if name.is_empty() {
        wrong("cluster_id", "it is empty; name the cluster, the same on every node".to_owned());
    } else if name.len() > MAX_CLUSTER_ID || !name.chars().all(is_plain) {
        let name: String = name.chars().take(MAX_CLUSTER_ID).collect();
        let limit = format!("1 to {MAX_CLUSTER_ID} of letters, digits and ._-");
        wrong("cluster_id", format!("{name:?} is not {limit}"));
    }
    let id = config.node_id;
    if id == 0 {
        wrong("node_id", "0 names no node; count from 1".to_owned());
    } else if !config.node_endpoints.is_empty() && !config.node_endpoints.contains_key(&id) {
        let known: Vec<_> = config.node_endpoints.keys().map(u64::to_string).collect();
        let known = known.join(", ");
        wrong("node_id", format!("node {id} is none of node_endpoints, which has {known}"));
    }
    let count = config.node_endpoints.len();
    if count > MAX_NODES {
        wrong("node_endpoints", format!("{count} nodes are over the limit of {MAX_NODES}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (id, endpoints) in &config.node_endpoints {
        if *id == 0 {
            wrong("node_endpoints", "0 names no node; count from 1".to_owned());
        }
        if endpoints.is_empty() {
            wrong("node_endpoints", format!("node {id} has no address; write host:port"));
        }
        for endpoint in endpoints {
            if !is_address(endpoint) {
                let message = format!("{endpoint:?} of node {id} is no address; write host:port");
                wrong("node_endpoints", message);
            } else if !seen.insert(endpoint) {
                wrong("node_endpoints", format!("{endpoint} is there twice; one node has it"));
            }
        }
    }
}

/// What a name is made of.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-".contains(character)
}

/// Whether it is `host:port`, with or without a scheme before it.
fn is_address(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let Some((host, port)) = rest.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', ' ']);
    (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn times(config: &RaftClusterConfig, problems: &mut Vec<Problem>) {
    let mut wrong = |field, message: String| problems.push(Problem { field, message });
    let (election, heartbeat) = (config.election_timeout_ms, config.heartbeat_interval_ms);
    if !(10..=60_000).contains(&heartbeat) {
        let message = format!("{heartbeat} is not between 10 and 60000; 300 is the usual");
        wrong("heartbeat_interval_ms", message);
    }
    // A third of it is the shortest wait, which has to outlast a heartbeat.
    if election > 600_000 || election / 3 <= heartbeat {
        let least = heartbeat.saturating_mul(3).saturating_add(3);
        let message = format!(
            "{election} is not between {least}, which is over three heartbeats, and 600000"
        );
        wrong("election_timeout_ms", message);
    }
}

fn limits(config: &RaftClusterConfig, problems: &mut Vec<Problem>) {
    let mut wrong = |field, message: String| problems.push(Problem { field, message });
    let distance = config.snapshot_distance;
    if distance == 0 {
        wrong("snapshot_distance", "0 would take a snapshot at every entry".to_owned());
    }
    let bytes = config.max_command_bytes;
    if bytes == 0 || bytes > MAX_COMMAND_BYTES {
        let message = format!("{bytes} is not between 1 and {MAX_COMMAND_BYTES}");
        wrong("max_command_bytes", message);
    }
    if config.max_waiting_commands == 0 {
        wrong("max_waiting_commands", "0 lets nothing through; 65536 is the usual".to_owned());
    }
    let waiting = config.max_waiting_bytes;
    if waiting < bytes {
        let message = format!("{waiting} is less than one command of {bytes} bytes");
        wrong("max_waiting_bytes", message);
    }
    let requests = config.requests_in_flight;
    if !(1..=1_024).contains(&requests) {
        wrong("requests_in_flight", format!("{requests} is not between 1 and 1024"));
    }
    if config.bytes_in_flight == 0 {
        wrong("bytes_in_flight", "0 lets nothing through; 8388608 is the usual".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(config: RaftClusterConfig) -> Vec<&'static str> {
        config.validate().unwrap_err().0.iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        for config in [RaftClusterConfig::new("a", 1), RaftClusterConfig::production("a", 1)] {
            config.node(1, "localhost:5001").node(2, "[::1]:5002").validate().unwrap();
        }
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let mut config = RaftClusterConfig::new("", 4).node(1, "a:1").node(2, "a:1").node(3, "a");
        config.election_timeout_ms = 900;
        config.snapshot_distance = 0;
        config.max_waiting_bytes = 1;
        config.requests_in_flight = 0;
        let wrong = [
            "cluster_id",
            "node_id",
            "node_endpoints",
            "node_endpoints",
            "election_timeout_ms",
            "snapshot_distance",
            "max_waiting_bytes",
            "requests_in_flight",
        ];
        assert_eq!(fields(config), wrong);
    }

    #[test]
    fn an_election_outlasts_three_heartbeats() {
        let mut config = RaftClusterConfig::new("a", 1).node(1, "a:1");
        config.heartbeat_interval_ms = 500;
        let problem = config.validate().unwrap_err().to_string();
        assert_eq!(
            problem,
            "election_timeout_ms: 1500 is not between 1503, which is over three heartbeats, and 600000"
        );
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["a:1", "http://a:5001", "10.0.0.1:65535", "[::1]:80"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:80", "a b:1", "http://a"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
