//! How a replicated coordinator is set up on one node.

use std::time::Duration;

use sheaf_coordinator::engine;

use crate::types::NodeId;

/// Setting up a [`RaftCoordinator`](super::RaftCoordinator).
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Policy and retention: those of the leader hold on every node, from the moment
    /// on in which it leads.
    pub engine: engine::Config,
    /// How long a call looks for a leader that does it, what a claim waits for not
    /// counted; then it is refused as unavailable.
    pub patience: Duration,
    /// Most calls that wait to be proposed; more are refused as overloaded.
    pub max_calls: usize,
    /// Most claims that wait for work on the leader; more are refused as overloaded.
    pub max_waiting: usize,
    /// Most readers of events; more are refused as overloaded.
    pub max_watchers: usize,
    /// Events kept for a slow reader; it is told how many more it missed.
    pub watch_buffer: usize,
    /// Most commands under way at once: calls that come meanwhile share the next.
    pub max_commands: usize,
    /// Most bytes of calls in one command, where it has more than one call: below what
    /// the node takes as one. A call that is larger than that is refused.
    pub max_command_bytes: usize,
}

impl Config {
    /// Of this node: 10 s to find a leader, 8,192 calls, 4,096 waiting claims, 256
    /// readers with 1,024 events each, 4 commands of half a megabyte under way.
    pub fn new(node: NodeId) -> Self {
        Config {
            node,
            engine: engine::Config::default(),
            patience: Duration::from_secs(10),
            max_calls: 8_192,
            max_waiting: 4_096,
            max_watchers: 256,
            watch_buffer: 1_024,
            max_commands: 4,
            max_command_bytes: 512 << 10,
        }
    }
}
