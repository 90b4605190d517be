//! The first entry of a cluster: who may write it, and when.
//!
//! 1. A node founds only where all members have said that they have no entry but the first, and
//!    nobody has said more. Each tells the incarnation of its log; they are part of the first
//!    entry, by which the cluster knows from then on who has lost its log.
//! 2. All who found write the same first entry. Whoever is about to write it says so in a hash,
//!    then asks the others once more: of two that would write different ones, the second to
//!    say so hears of the first.
//! 3. A node without entries gives no vote. So whoever is elected has the first entry on a
//!    majority, and a node that lost its disk helps nobody to the lead who lacks what it lost.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use openraft::AsyncRuntime;
use openraft::error::{InitializeError, RaftError};
use sheaf_retry::{RetryPolicy, SharedClock};
use twox_hash::XxHash3_64;

use super::change::{ChangeError, refused};
use super::observed;
use super::{Driver, RaftNode};
use crate::network::wire::Hello;
use crate::types::{Member, NodeId};

/// How often a node looks whether the others are there, and agree.
const FOUNDING: RetryPolicy = RetryPolicy {
    max_retries: u32::MAX,
    base_ms: 200,
    factor: 1.5,
    cap_ms: 5_000,
    jitter: 0.2,
    deadline_ms: None,
};

/// The cluster that a node is about to found, for those who ask.
#[derive(Debug, Default)]
pub(super) struct Intent {
    hash: Mutex<Option<u64>>,
    /// Who asks: one after the other, as there is one intent.
    turn: tokio::sync::Mutex<()>,
}

impl Intent {
    pub(super) fn get(&self) -> Option<u64> {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, hash: u64) {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    }

    fn clear(&self) {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn hash<'a>(members: impl Iterator<Item = (&'a NodeId, &'a Member)>, with_logs: bool) -> u64 {
    let mut hasher = XxHash3_64::new();
    for (id, member) in members {
        hasher.write(&id.to_le_bytes());
        hasher.write(&(member.endpoints.len() as u64).to_le_bytes());
        for endpoint in &member.endpoints {
            hasher.write(&(endpoint.len() as u64).to_le_bytes());
            hasher.write(endpoint.as_bytes());
        }
        if with_logs {
            hasher.write(&member.incarnation.to_le_bytes());
        }
    }
    hasher.finish()
}

/// A hash of who founds a cluster: ids, and addresses in their order.
pub(super) fn founders(members: &BTreeMap<NodeId, Member>) -> u64 {
    hash(members.iter(), false)
}

/// A hash of the first entry: ids, addresses, and the incarnations of logs.
pub(super) fn founding<'a>(members: impl Iterator<Item = (&'a NodeId, &'a Member)>) -> u64 {
    hash(members, true)
}

/// What to do, after what the others told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// The cluster runs: its leader comes.
    Wait,
    /// Write the first entry, of these members and their logs.
    Found(BTreeMap<NodeId, Member>),
}

/// The cluster runs: there is more than the first entry, or somebody led.
fn runs(told: &Hello) -> bool {
    told.is_led || told.leader.is_some() || told.last.is_some_and(|last| last > 0)
}

fn next(
    (own, incarnation): (NodeId, u64),
    members: &BTreeMap<NodeId, Member>,
    told: &BTreeMap<NodeId, Hello>,
) -> Result<Next, ChangeError> {
    if told.values().any(runs) {
        return Ok(Next::Wait);
    }
    let hash = founders(members);
    let differs = |told: &Hello| told.founders.is_some_and(|other| other != hash);
    if let Some((other, _)) = told.iter().find(|(_, told)| differs(told)) {
        return Err(refused(format!(
            "node {other} would found a cluster of other members than node {own}; give all nodes \
             the same ids and addresses, written the same, and start those that had others again"
        )));
    }
    let silent = members.keys().filter(|id| **id != own && !told.contains_key(id));
    let silent: Vec<_> = silent.map(u64::to_string).collect();
    if !silent.is_empty() {
        let problem = format!(
            "{} of {} members are there, and all have to be, this once; no answer from node {}",
            told.len() + 1,
            members.len(),
            silent.join(", ")
        );
        return Err(ChangeError::Waiting { problem });
    }
    if let Some((other, _)) = told.iter().find(|(_, told)| told.incarnation == 0) {
        return Err(refused(format!(
            "node {other} is of an earlier version, which founds clusters in another way; give \
             it this version"
        )));
    }
    let log = |id: &NodeId| told.get(id).map_or(incarnation, |told| told.incarnation);
    let member =
        |(id, member): (&NodeId, &Member)| (*id, Member { incarnation: log(id), ..member.clone() });
    let members: BTreeMap<_, _> = members.iter().map(member).collect();
    agree(&members, told)?;
    Ok(Next::Found(members))
}

/// Whether nobody founds, or has founded, a cluster of other logs than these.
fn agree(
    members: &BTreeMap<NodeId, Member>,
    told: &BTreeMap<NodeId, Hello>,
) -> Result<(), ChangeError> {
    let hash = founding(members.iter());
    let differs = |told: &Hello| told.founding.is_some_and(|other| other != hash);
    match told.iter().find(|(_, told)| differs(told)) {
        None => Ok(()),
        Some((other, Hello { last: None, .. })) => {
            let problem = format!("node {other} is about to found it with another log of a node");
            Err(ChangeError::Waiting { problem })
        }
        Some((other, _)) => Err(refused(format!(
            "node {other} founded the cluster when a node had another log than it has now: one \
             was lost since; where no command was acknowledged yet, empty the directories of all \
             nodes, and else found another cluster, under another id"
        ))),
    }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Founds the cluster of the members that it was told, unless it exists; tries until it is
    /// founded, also where another node has to be given other members or a later version first.
    /// What stands in the way is logged whenever it changes.
    ///
    /// # Errors
    /// `Replica` where this node has stopped.
    pub async fn found(&self, clock: SharedClock) -> Result<(), ChangeError> {
        let (id, members) = (self.id(), self.inner.config.members());
        let attempt = async |_| self.bootstrap(members.clone()).await;
        let mut said = String::new();
        let again = |error: &ChangeError| {
            let text = error.to_string();
            match error {
                ChangeError::Replica(_) => return false,
                _ if text == said => {}
                ChangeError::Refused { .. } => {
                    tracing::error!(target: "raft", node = id, %error, "founds nothing yet");
                }
                _ => tracing::info!(target: "raft", node = id, %error, "founds nothing yet"),
            }
            said = text;
            true
        };
        let founded = sheaf_retry::retry_if(&FOUNDING, id, clock, attempt, again).await;
        founded.map_err(sheaf_retry::Error::into_last)
    }

    /// Founds the cluster of these members, unless it exists.
    ///
    /// All of them do so, with the same members, and all have to be there: nobody is elected
    /// before a majority has written them down. A node whose log is empty and that finds the
    /// cluster running founds nothing: it waits for the leader, which knows whether it had a log
    /// and says so where it lost one.
    ///
    /// # Errors
    /// `Waiting` until all members answer: try again. `Refused` where this node is no
    /// member, or another one would found a cluster of other members; `Replica` where this
    /// node has stopped. [`found`](Self::found) tries again.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Member>) -> Result<(), ChangeError> {
        let id = self.id();
        if !members.contains_key(&id) {
            let known: Vec<_> = members.keys().map(u64::to_string).collect();
            return Err(refused(format!("node {id} is none of {}", known.join(", "))));
        }
        let _turn = self.inner.intent.turn.lock().await;
        let founded = self.inner.raft.is_initialized().await;
        if founded.map_err(|error| observed::fatal(&error))? {
            return Ok(());
        }
        let members = match self.decide(&members).await {
            Ok(Some(members)) => members,
            // Nothing is written: nobody has to agree with it any more.
            undecided => {
                self.inner.intent.clear();
                return undecided.map(drop);
            }
        };
        match self.inner.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(observed::fatal(&error).into()),
        }
    }

    /// Asks all others twice; the members to found the cluster of, and none where it runs.
    async fn decide(
        &self,
        members: &BTreeMap<NodeId, Member>,
    ) -> Result<Option<BTreeMap<NodeId, Member>>, ChangeError> {
        let own = (self.id(), self.inner.incarnation);
        let first = next(own, members, &self.told(members).await)?;
        if let Next::Found(members) = &first {
            self.inner.intent.set(founding(members.iter()));
        }
        let second = next(own, members, &self.told(members).await)?;
        match (first, second) {
            (Next::Found(first), Next::Found(second)) if first == second => Ok(Some(second)),
            (Next::Found(_), Next::Found(_)) => {
                let problem = "a node has another log than a moment ago".to_owned();
                Err(ChangeError::Waiting { problem })
            }
            (Next::Wait, _) | (_, Next::Wait) => {
                tracing::info!(
                    target: "raft", node = self.id(), "the cluster runs: waiting for its leader"
                );
                Ok(None)
            }
        }
    }

    /// What the others have.
    async fn told(&self, members: &BTreeMap<NodeId, Member>) -> BTreeMap<NodeId, Hello> {
        let others = members.iter().filter(|(other, _)| **other != self.id());
        let asked = others.map(|(other, member)| async move {
            Some((*other, self.inner.forward.hello(*other, member).await?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[NodeId]) -> BTreeMap<NodeId, Member> {
        let member = |id: &NodeId| Member::new(vec![format!("node-{id}:1")]);
        ids.iter().map(|id| (*id, member(id))).collect()
    }

    fn told(id: u64, last: Option<u64>, of: &BTreeMap<NodeId, Member>) -> Hello {
        Hello { last, founders: Some(founders(of)), incarnation: 100 + id, ..Hello::default() }
    }

    const OWN: (NodeId, u64) = (1, 101);

    #[test]
    fn all_members_without_entries_found_and_know_each_others_logs() {
        let all = members(&[1, 2, 3]);
        let (second, third) = (told(2, None, &all), told(3, None, &all));
        let missing = next(OWN, &all, &BTreeMap::from([(3, third)])).unwrap_err().to_string();
        assert_eq!(
            missing,
            "the cluster is not founded yet: 2 of 3 members are there, and all have to be, this \
             once; no answer from node 2"
        );
        let found = next(OWN, &all, &BTreeMap::from([(2, second), (3, third)])).unwrap();
        let Next::Found(known) = &found else { panic!("{found:?}") };
        let logs: Vec<_> = known.values().map(|member| member.incarnation).collect();
        assert_eq!(logs, [101, 102, 103]);
        // The other has founded just now, or is about to, and with the same.
        let same = Some(founding(known.iter()));
        for last in [None, Some(0)] {
            let first = Hello { last, founding: same, ..second };
            let told = BTreeMap::from([(2, first), (3, third)]);
            assert_eq!(next(OWN, &all, &told).unwrap(), found);
        }
        assert!(matches!(next(OWN, &members(&[1]), &BTreeMap::new()).unwrap(), Next::Found(_)));
    }

    #[test]
    fn a_log_that_was_lost_while_the_cluster_was_founded_founds_nothing() {
        let all = members(&[1, 2]);
        let other = |last| Hello { founding: Some(7), ..told(2, last, &all) };
        let error = next(OWN, &all, &BTreeMap::from([(2, other(None))])).unwrap_err();
        assert!(matches!(error, ChangeError::Waiting { .. }), "{error:?}");
        let error = next(OWN, &all, &BTreeMap::from([(2, other(Some(0)))])).unwrap_err();
        assert!(matches!(error, ChangeError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("one was lost since"), "{error}");
    }

    #[test]
    fn a_cluster_that_runs_is_not_founded_again() {
        let all = members(&[1, 2, 3]);
        let (empty, more) = (told(2, None, &all), told(3, Some(1), &all));
        assert_eq!(next(OWN, &all, &BTreeMap::from([(2, empty), (3, more)])).unwrap(), Next::Wait);
        let led = Hello { is_led: true, ..told(2, Some(0), &all) };
        assert_eq!(next(OWN, &all, &BTreeMap::from([(2, led)])).unwrap(), Next::Wait);
    }

    #[test]
    fn founders_with_other_members_or_of_an_earlier_version_are_refused() {
        let (all, fewer) = (members(&[1, 2, 3]), members(&[1, 2]));
        let mut moved = all.clone();
        moved.insert(3, Member::new(vec!["elsewhere:1".to_owned()]));
        for other in [fewer, moved] {
            let told = BTreeMap::from([(2, told(2, None, &other))]);
            let error = next(OWN, &all, &told).unwrap_err();
            assert!(matches!(error, ChangeError::Refused { .. }), "{error:?}");
            assert!(error.to_string().starts_with("node 2 would found a cluster of other"));
        }
        let all = members(&[1, 2]);
        let old = Hello { incarnation: 0, ..told(2, None, &all) };
        let error = next(OWN, &all, &BTreeMap::from([(2, old)])).unwrap_err();
        assert!(error.to_string().starts_with("node 2 is of an earlier version"), "{error}");
    }
}
