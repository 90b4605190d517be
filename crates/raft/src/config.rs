//! What a cluster is told of itself, before it starts.

mod engine;
mod problems;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::problems::{Problem, Problems};
use crate::types::{Member, NodeId};

/// Values of [`RaftClusterConfig::new`], and of [`RaftClusterConfig::production`] where they differ.
pub(crate) const DEFAULTS: Defaults = Defaults {
    election_timeout_ms: 1_500,
    production_election_timeout_ms: 3_000,
    heartbeat_interval_ms: 300,
    snapshot_distance: 10_000,
    kept_entries: 1_000,
    max_command_bytes: 1 << 20,
    max_waiting_commands: 65_536,
    max_waiting_bytes: 64 << 20,
    requests_in_flight: 2,
    bytes_in_flight: 8 << 20,
};

/// The defaults in one place.
pub(crate) struct Defaults {
    election_timeout_ms: u64,
    production_election_timeout_ms: u64,
    heartbeat_interval_ms: u64,
    snapshot_distance: u64,
    kept_entries: u64,
    max_command_bytes: u64,
    max_waiting_commands: u64,
    max_waiting_bytes: u64,
    requests_in_flight: usize,
    bytes_in_flight: usize,
}

/// What every node of a cluster is told; all but `node_id` should be the same on all of them.
///
/// ```
/// use sheaf_raft::config::RaftClusterConfig;
///
/// let config = RaftClusterConfig::new("orders", 1)
///     .node(1, "10.0.0.1:5001")
///     .node(2, "10.0.0.2:5001")
///     .node(3, "10.0.0.3:5001")
///     .validate()?;
/// assert_eq!(config.election_timeout_ms, 1_500);
///
/// let mut wrong = RaftClusterConfig::new("", 4).node(1, "10.0.0.1");
/// wrong.heartbeat_interval_ms = 2_000;
/// assert_eq!(wrong.validate().unwrap_err().0.len(), 4);
/// # Ok::<(), sheaf_raft::config::Problems>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftClusterConfig {
    /// The cluster's name: nodes of another name are refused.
    pub cluster_id: String,
    /// Which of the nodes this one is.
    pub node_id: NodeId,
    /// Where each node is reached, as `host:port`; the preferred address first.
    pub node_endpoints: BTreeMap<NodeId, Vec<String>>,
    /// How long a leader may be silent before another is looked for, in milliseconds; an
    /// election starts after one to four thirds of it.
    pub election_timeout_ms: u64,
    /// How often a leader tells that it is there, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// After how many entries the next snapshot is taken.
    pub snapshot_distance: u64,
    /// How many entries stay in the log behind a snapshot, for followers that are a little late;
    /// never less than two of `snapshot_distance`, so that the snapshot before the newest one can
    /// take its place where it is damaged.
    pub kept_entries: u64,
    /// Ask first whether an election could be won: a node that was away then disturbs nobody.
    pub enable_pre_vote: bool,
    /// The nodes talk over TLS.
    pub enable_ssl: bool,
    /// A follower passes commands on to the leader instead of refusing them.
    pub forward_proposals: bool,
    /// The longest command, in bytes.
    pub max_command_bytes: u64,
    /// How many commands may wait for their answers at a node.
    pub max_waiting_commands: u64,
    /// How many bytes of commands may wait for their answers at a node.
    pub max_waiting_bytes: u64,
    /// How many appends may be on their way to one follower.
    pub requests_in_flight: usize,
    /// How many bytes of appends may be on their way to one follower; one append is let
    /// through whatever its size.
    pub bytes_in_flight: usize,
}

impl RaftClusterConfig {
    /// One node of a cluster, with the default times and limits and no endpoints yet.
    pub fn new(cluster_id: impl Into<String>, node_id: NodeId) -> Self {
        RaftClusterConfig {
            cluster_id: cluster_id.into(),
            node_id,
            node_endpoints: BTreeMap::new(),
            election_timeout_ms: DEFAULTS.election_timeout_ms,
            heartbeat_interval_ms: DEFAULTS.heartbeat_interval_ms,
            snapshot_distance: DEFAULTS.snapshot_distance,
            kept_entries: DEFAULTS.kept_entries,
            enable_pre_vote: true,
            enable_ssl: false,
            forward_proposals: false,
            max_command_bytes: DEFAULTS.max_command_bytes,
            max_waiting_commands: DEFAULTS.max_waiting_commands,
            max_waiting_bytes: DEFAULTS.max_waiting_bytes,
            requests_in_flight: DEFAULTS.requests_in_flight,
            bytes_in_flight: DEFAULTS.bytes_in_flight,
        }
    }

    /// As [`new`](Self::new), with TLS and the patience that networks between machines need.
    pub fn production(cluster_id: impl Into<String>, node_id: NodeId) -> Self {
        RaftClusterConfig {
            election_timeout_ms: DEFAULTS.production_election_timeout_ms,
            enable_ssl: true,
            ..RaftClusterConfig::new(cluster_id, node_id)
        }
    }

    /// Adds an address of a node, after those that it has.
    #[must_use]
    pub fn node(mut self, id: NodeId, endpoint: impl Into<String>) -> Self {
        self.node_endpoints.entry(id).or_default().push(endpoint.into());
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn validate(self) -> Result<Self, Problems> {
        let problems = problems::of(&self);
        if problems.is_empty() { Ok(self) } else { Err(Problems(problems)) }
    }

    /// The nodes as members.
    pub fn members(&self) -> BTreeMap<NodeId, Member> {
        let member = |endpoints: &Vec<String>| Member::new(endpoints.clone());
        self.node_endpoints.iter().map(|(id, endpoints)| (*id, member(endpoints))).collect()
    }

    /// How long a leader may be silent.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.election_timeout_ms)
    }

    /// How long another node may take to answer: by then there would be another leader.
    pub(crate) fn patience(&self) -> Duration {
        self.election_timeout() * 2
    }
}
