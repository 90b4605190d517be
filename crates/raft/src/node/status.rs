//! How a node and its cluster are.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{AsyncRuntime, Instant as _, ServerState};

use super::{Driver, RaftNode};
use crate::machine::{DigestSoFar, StateMachine};
use crate::replica::{Error, Replica};
use crate::types::{Member, NodeId};

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It receives entries and has no vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It leads.
    Leader,
    /// It has stopped.
    Stopped,
}

impl Role {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        }
    }
}

/// One member of the cluster, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which node.
    pub id: NodeId,
    /// Where it is reached.
    pub member: Member,
    /// It has a vote.
    pub is_voter: bool,
    /// The last entry that it is known to have; only the leader knows.
    pub matched: Option<u64>,
    /// How many entries of the leader's it is known to lack; only the leader knows.
    pub lag: Option<u64>,
    /// How long ago it last answered; only the leader knows.
    pub since_answer: Option<Duration>,
    /// Why it takes nothing from this node, where it leads: its log was lost, for example. What
    /// it has is not known then.
    pub problem: Option<String>,
}

/// A node and its cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster's name.
    pub cluster_id: String,
    /// Which node tells it.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// How long ago a majority last answered this node, where it leads others.
    pub since_quorum: Option<Duration>,
    /// The last entry of its log.
    pub last_log: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<u64>,
    /// The last entry that its state has.
    pub applied: Option<u64>,
    /// The last entry of its snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that is not in its log any more.
    pub purged: Option<u64>,
    /// Who belongs to the cluster.
    pub members: Vec<MemberStatus>,
    /// Why it stopped.
    pub stopped: Option<String>,
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// How the node and its cluster are.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<crate::types::LogId>| id.as_ref().map(|id| id.index);
        let stopped = self.stopped();
        let role = match metrics.state {
            _ if stopped.is_some() => Role::Stopped,
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = &metrics.membership_config;
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let problems = self.inner.troubles.all();
        let member = |(id, member): (&NodeId, &Member)| {
            let problem = problems.get(id).filter(|_| role == Role::Leader).cloned();
            let answered = metrics.heartbeat.as_ref().and_then(|known| known.get(id).copied());
            let since_answer = answered.flatten().map(|at| at.into_inner().elapsed());
            let known = metrics.replication.as_ref().and_then(|known| known.get(id));
            let known = known.filter(|_| problem.is_none());
            let matched = known.and_then(|matched| matched.as_ref().map(|id| id.index));
            let lag = |last: u64| last.saturating_sub(matched.map_or(0, |index| index));
            MemberStatus {
                id: *id,
                member: member.clone(),
                is_voter: voters.contains(id),
                matched,
                lag: known.and(metrics.last_log_index).map(lag),
                since_answer: since_answer.filter(|_| *id != self.id()),
                problem,
            }
        };
        let acknowledged = metrics.last_quorum_acked.filter(|_| role == Role::Leader);
        let is_alone = voters.len() == 1;
        let since_quorum = acknowledged.filter(|_| !is_alone).map(|at| at.into_inner().elapsed());
        Status {
            cluster_id: self.inner.config.cluster_id.clone(),
            id: self.id(),
            role,
            term: metrics.current_term,
            leader: metrics.current_leader,
            since_quorum,
            last_log: metrics.last_log_index,
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            members: membership.nodes().map(member).collect(),
            stopped: stopped.map(|error: Error| error.to_string()),
        }
    }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: StateMachine,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// A hash of the node's state: nodes that applied the same have the same. Takes long where
    /// the state is large, and blocks its thread; commands go on meanwhile, and where they do
    /// not rest it is begun anew each time.
    pub fn digest(&self) -> u64 {
        loop {
            if let Some(digest) = self.digest_while(|| true) {
                return digest;
            }
        }
    }

    /// The same, as long as it goes on, which is asked about every millisecond; `None` where it
    /// does not.
    pub fn digest_while(&self, goes_on: impl Fn() -> bool) -> Option<u64> {
        let mut so_far = DigestSoFar::default();
        while goes_on() {
            let mut digest = None;
            self.with_machine(&mut |machine| digest = machine.digest_part(&mut so_far));
            if digest.is_some() {
                return digest;
            }
            // Who waits for the state comes first.
            std::thread::yield_now();
        }
        None
    }
}
