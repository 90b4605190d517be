//! The JSON of the actions that look after a cluster.

use serde::{Deserialize, Serialize};

/// The request of `RaftStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestInput {
    /// Whether the hash of the whole state is wanted, which takes a while.
    #[serde(default)]
    pub digest: bool,
}

/// The answer of `RaftStatus`: one node, as it sees its cluster.
///
/// Fields are only ever added; a reader leaves out what it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRecord {
    /// The name of the cluster.
    pub cluster_id: String,
    /// The node that answers.
    pub node_id: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// The term that it knows of.
    pub term: u64,
    /// Who leads, where known.
    pub leader: Option<LeaderRecord>,
    /// The last entry of its log.
    pub last_log: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// The last entry that its state has.
    pub applied: u64,
    /// The last entry of its latest snapshot.
    pub snapshot: u64,
    /// Entries up to here are in the snapshot only.
    pub purged: u64,
    /// Every node, by number.
    pub members: Vec<MemberRecord>,
    /// Hash of the whole state as of `applied`, where it was asked for; nodes that
    /// applied the same have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why the node has stopped, where it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The node.
    pub node_id: u64,
    /// Where it is reached.
    pub endpoints: Vec<String>,
}

/// One node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The node.
    pub node_id: u64,
    /// Where it is reached.
    pub endpoints: Vec<String>,
    /// Whether its vote counts; a learner only follows.
    pub voter: bool,
    /// The last entry that it has; known to the leader only.
    #[serde(default)]
    pub matched: Option<u64>,
    /// How many entries it is behind the leader; known to the leader only.
    #[serde(default)]
    pub lag: Option<u64>,
    /// How long ago it last answered; known to the leader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms: Option<u64>,
    /// Why it takes nothing from the leader, where that is so; then `matched` is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The request of `RaftAddLearner`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddLearnerInput {
    /// A number that no node ever had.
    pub node_id: u64,
    /// Where the others reach it, the preferred address first.
    pub endpoints: Vec<String>,
}

/// The request of `RaftPromote` and `RaftRemove`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeInput {
    /// The node.
    pub node_id: u64,
}

/// The request of `RaftTransferLeader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferInput {
    /// To whom; by default to another voter that has the whole log.
    #[serde(default)]
    pub node_id: Option<u64>,
}

/// The answer of what changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneRecord {
    /// What is the case now, for people.
    pub done: String,
    /// The entry of the log that says so, or the last one of a snapshot.
    #[serde(default)]
    pub index: u64,
}
