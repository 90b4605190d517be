//! Who belongs to the cluster, who leads it, and when a snapshot is taken.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{AsyncRuntime, ChangeMembers};
use sheaf_retry::{Code, Retryable};

use super::observed;
use super::proposals::not_leader;
use super::{Driver, RaftNode};
use crate::replica::Error;
use crate::types::{Member, NodeId};

/// How many entries a learner may lack that becomes a voter: the cluster waits for them.
const MAX_LAG: u64 = 1_000;

/// Election timeouts that a snapshot may take which somebody waits for.
const SNAPSHOT: u32 = 20;

/// Why the cluster was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// This node does not lead, or has stopped.
    #[error(transparent)]
    Replica(#[from] Error),
    /// It makes no sense as things are.
    #[error("{problem}")]
    Refused {
        /// Why.
        problem: String,
    },
    /// A learner lacks too much to have a vote yet.
    #[error("{}", match lag {
        Some(lag) => format!("node {id} lacks {lag} entries, the limit is {limit}"),
        None => format!("what node {id} has is not known yet; {limit} entries may be missing"),
    })]
    Behind {
        /// Which node.
        id: NodeId,
        /// How many entries it lacks, where that is known.
        lag: Option<u64>,
        /// How many it may lack.
        limit: u64,
    },
    /// The cluster is not founded yet: it takes others, which may come. Try again.
    #[error("the cluster is not founded yet: {problem}")]
    Waiting {
        /// Who is missing.
        problem: String,
    },
    /// It was asked for and did not come about in time.
    #[error("{what} did not come about within {within:?}")]
    Late {
        /// What.
        what: String,
        /// The time.
        within: Duration,
    },
}

impl Retryable for ChangeError {
    fn code(&self) -> Code {
        match self {
            ChangeError::Replica(error) => error.code(),
            ChangeError::Refused { .. } => Code::FailedPrecondition,
            ChangeError::Behind { .. } | ChangeError::Waiting { .. } | ChangeError::Late { .. } => {
                Code::Unavailable
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

pub(super) fn refused(problem: impl Into<String>) -> ChangeError {
    ChangeError::Refused { problem: problem.into() }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Has a node receive the log without a vote. The node must be new and be running.
    ///
    /// # Errors
    /// `Refused` where a member has this id or ever had it; `Replica` where this node does not lead.
    pub async fn add_learner(&self, id: NodeId, member: Member) -> Result<(), ChangeError> {
        if id == 0 || member.endpoints.is_empty() {
            return Err(refused("a node has an id above 0 and an address"));
        }
        if let Some(known) = self.member(id) {
            return Err(refused(format!("node {id} is a member already, at {known}")));
        }
        if self.removed(id) {
            let problem =
                format!("node {id} was removed, and an id is never given twice; choose another");
            return Err(refused(problem));
        }
        let added = self.add_new(id, member).await;
        if added.is_err() && self.member(id).is_none() {
            self.inner.links.forget(id).await;
        }
        added
    }

    async fn add_new(&self, id: NodeId, member: Member) -> Result<(), ChangeError> {
        let incarnation = self.refuse_foreign(id, &member).await?;
        let member = Member { incarnation, ..member };
        let added = self.inner.raft.add_learner(id, member, false).await;
        added.map(drop).map_err(change_error)
    }

    /// Gives a learner a vote, once it has nearly all of the log.
    ///
    /// # Errors
    /// `Behind` where it lacks too much; `Refused` where it is no member, lost its log, or takes
    /// nothing for another reason; `Replica` where this node does not lead.
    pub async fn promote(&self, id: NodeId) -> Result<(), ChangeError> {
        let status = self.status();
        if status.leader != Some(self.id()) {
            return Err(self.other_leads());
        }
        let known = status.members.iter().find(|member| member.id == id);
        let Some(known) = known else { return Err(refused(format!("node {id} is no member"))) };
        if known.is_voter {
            return Ok(());
        }
        // What keeps it from catching up comes first: that is no matter of time.
        if let Some(problem) = &known.problem {
            return Err(refused(problem));
        }
        self.refuse_lost(id, &known.member).await?;
        let lag = known.matched.and(known.lag);
        if lag.is_none_or(|lag| lag > MAX_LAG) {
            return Err(ChangeError::Behind { id, lag, limit: MAX_LAG });
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a node out of the cluster for good: its id is not given again.
    ///
    /// # Errors
    /// `Refused` where it is no member or the last voter; `Replica` where this node does not
    /// lead.
    pub async fn remove(&self, id: NodeId) -> Result<(), ChangeError> {
        let status = self.status();
        if status.leader != Some(self.id()) {
            return Err(self.other_leads());
        }
        let known = status.members.iter().find(|member| member.id == id);
        let Some(known) = known else { return Err(refused(format!("node {id} is no member"))) };
        let ids = BTreeSet::from([id]);
        if known.is_voter {
            if status.members.iter().filter(|member| member.is_voter).count() == 1 {
                return Err(refused(format!("node {id} is the only one with a vote")));
            }
            self.change(ChangeMembers::RemoveVoters(ids)).await?;
        } else {
            self.change(ChangeMembers::RemoveNodes(ids)).await?;
        }
        let removed = || self.inner.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed().insert(id, status.term);
        if id != self.id() {
            self.inner.links.forget(id).await;
        }
        Ok(())
    }

    /// Hands the lead to another voter, and waits until that one has it.
    ///
    /// An empty entry is written first, and the voter has to have it. One that has written
    /// nothing since it was started cannot tell its engine that its log is whole, and would not
    /// take the lead; and a leader gives up the lead only to one that is there, and where it has
    /// a majority.
    ///
    /// # Errors
    /// `Late` where no majority or not this voter writes the entry, or the voter does not take
    /// the lead in time; `Refused` where it is no voter, or takes nothing; `Replica` where this
    /// node does not lead.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ChangeError> {
        let status = self.status();
        if status.leader != Some(self.id()) {
            return Err(self.other_leads());
        }
        if to == self.id() {
            return Ok(());
        }
        if !status.members.iter().any(|member| member.id == to && member.is_voter) {
            return Err(refused(format!("node {to} has no vote")));
        }
        let written = self.write_blank().await?;
        self.heir(written, Some(to)).await?;
        self.give(to).await
    }

    /// Hands the lead to another voter that is there, and waits until that one has it; which.
    /// An empty entry is written first: whoever has it answers, and lacks nothing.
    ///
    /// # Errors
    /// As [`transfer_leader`](Self::transfer_leader); `Refused` where no other node has a vote.
    pub async fn hand_over(&self) -> Result<NodeId, ChangeError> {
        let status = self.status();
        if status.leader != Some(self.id()) {
            return Err(self.other_leads());
        }
        if !status.members.iter().any(|member| member.id != self.id() && member.is_voter) {
            return Err(refused("no other node has a vote; add one and promote it first"));
        }
        let written = self.write_blank().await?;
        let to = self.heir(written, None).await?;
        self.give(to).await?;
        Ok(to)
    }

    /// The first other voter that has this entry, or the one that is wanted, once it has it.
    async fn heir(&self, written: u64, wanted: Option<NodeId>) -> Result<NodeId, ChangeError> {
        let mut metrics = self.inner.raft.metrics();
        let has = async {
            loop {
                let heir = {
                    let metrics = metrics.borrow_and_update();
                    let voters: BTreeSet<_> = metrics.membership_config.voter_ids().collect();
                    let known = metrics.replication.iter().flatten();
                    let mut heirs = known.filter(|(id, matched)| {
                        let has = matched.as_ref().is_some_and(|id| id.index >= written);
                        let is_it = wanted.is_none_or(|wanted| wanted == **id);
                        **id != self.id() && has && is_it && voters.contains(*id)
                    });
                    heirs.next().map(|(id, _)| *id)
                };
                if let Some(heir) = heir {
                    return Ok(heir);
                }
                if metrics.changed().await.is_err() {
                    return Err(self.inner.observed.gone());
                }
            }
        };
        let within = self.inner.config.election_timeout() * 2;
        if let Ok(heir) = R::timeout(within, has).await {
            return Ok(heir?);
        }
        let Some(wanted) = wanted else {
            return Err(ChangeError::Late {
                what: "another voter with all entries".into(),
                within,
            });
        };
        let known = self.status().members.into_iter().find(|member| member.id == wanted);
        Err(match known.and_then(|known| known.problem) {
            Some(problem) => refused(problem),
            None => ChangeError::Late { what: format!("all entries at node {wanted}"), within },
        })
    }

    /// Writes an empty entry on a majority; its index.
    async fn write_blank(&self) -> Result<u64, ChangeError> {
        let within = self.inner.config.election_timeout() * 2;
        match R::timeout(within, self.inner.raft.write_blank()).await {
            Ok(written) => Ok(written.map_err(change_error)?.log_id.index),
            Err(_) => Err(ChangeError::Late { what: "an entry before the change".into(), within }),
        }
    }

    /// Gives the lead away, and waits until the other has it.
    async fn give(&self, to: NodeId) -> Result<(), ChangeError> {
        let within = self.inner.config.election_timeout() * 2;
        let asked = self.inner.raft.trigger().transfer_leader(to).await;
        asked.map_err(|error| observed::fatal(&error))?;
        let mut metrics = self.inner.raft.metrics();
        let led = async {
            while metrics.borrow_and_update().current_leader != Some(to) {
                if metrics.changed().await.is_err() {
                    return Err(self.inner.observed.gone());
                }
            }
            Ok(())
        };
        match R::timeout(within, led).await {
            Ok(led) => Ok(led?),
            Err(_) => Err(ChangeError::Late { what: format!("the lead of node {to}"), within }),
        }
    }

    /// Has a snapshot taken, and waits until there is one of all that was applied before.
    ///
    /// # Errors
    /// `Late` where it is still being written after twenty election timeouts; `Replica` where
    /// the node has stopped.
    pub async fn snapshot(&self) -> Result<(), ChangeError> {
        let mut metrics = self.inner.raft.metrics();
        let wanted = metrics.borrow_watched().last_applied;
        let within = self.inner.config.election_timeout() * SNAPSHOT;
        let taken = async {
            loop {
                let last = metrics.borrow_and_update().snapshot;
                if last >= wanted {
                    return Ok(());
                }
                // While one is being written, none is begun: it is asked for again after that.
                let asked = self.inner.raft.trigger().snapshot().await;
                asked.map_err(|error| observed::fatal(&error))?;
                while metrics.borrow_and_update().snapshot == last {
                    if metrics.changed().await.is_err() || self.stopped().is_some() {
                        return Err(self.inner.observed.gone());
                    }
                }
            }
        };
        match R::timeout(within, taken).await {
            Ok(taken) => Ok(taken?),
            Err(_) => {
                let index = wanted.map_or(0, |wanted| wanted.index);
                Err(ChangeError::Late { what: format!("a snapshot up to entry {index}"), within })
            }
        }
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>) -> Result<(), ChangeError> {
        let changed = self.inner.raft.change_membership(change, false).await;
        changed.map(drop).map_err(change_error)
    }

    fn member(&self, id: NodeId) -> Option<Member> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&id).cloned()
    }

    fn removed(&self, id: NodeId) -> bool {
        let removed = self.inner.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.contains_key(&id) || self.inner.machine.knew(id)
    }

    fn other_leads(&self) -> ChangeError {
        let leader = self.inner.observed.leader().filter(|(id, _)| *id != self.id());
        Error::NotLeader { leader }.into()
    }

    /// Refuses a learner that lost its log since it was added: it would never vote.
    async fn refuse_lost(&self, id: NodeId, member: &Member) -> Result<(), ChangeError> {
        match self.inner.forward.hello(id, member).await {
            Some(told) if member.incarnation != 0 && told.incarnation != member.incarnation => {
                Err(refused(format!(
                    "node {id} has another log than when it was added: its log was lost; \
                     remove it and add it under a new id"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a node that has a log of its own: it would be overwritten. The incarnation of
    /// the log that it has.
    async fn refuse_foreign(&self, id: NodeId, member: &Member) -> Result<u64, ChangeError> {
        let Some(told) = self.inner.forward.hello(id, member).await else {
            return Err(refused(format!("node {id} at {member} does not answer; start it first")));
        };
        match told.last {
            None => Ok(told.incarnation),
            Some(last) => {
                let problem = format!(
                    "node {id} at {member} has a log up to entry {last}; a new node has none"
                );
                Err(refused(problem))
            }
        }
    }
}

fn change_error<R: AsyncRuntime>(
    error: RaftError<crate::types::Types<R>, ClientWriteError<crate::types::Types<R>>>,
) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => not_leader(to).into(),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(to)) => {
            Error::Unknown { problem: to.to_string() }.into()
        }
        RaftError::APIError(error) => refused(error.to_string()),
        RaftError::Fatal(error) => observed::fatal(&error).into(),
    }
}
