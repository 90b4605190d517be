//! The first entry of a cluster: who may write it, and when.
//!
//! 1. A node founds only where a majority of the members, itself included, has said that it has
//!    no entry but the first, and nobody has said more.
//! 2. All who found write the same first entry: they compare a hash of their members.
//! 3. A node without entries gives no vote. So whoever is elected has the first entry on a
//!    majority, and a node that lost its disk helps nobody to the lead who lacks what it lost.

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use futures::future::join_all;
use openraft::AsyncRuntime;
use openraft::error::{InitializeError, RaftError};
use twox_hash::XxHash3_64;

use super::change::{ChangeError, refused};
use super::observed;
use super::{Driver, RaftNode};
use crate::network::wire::Hello;
use crate::types::{Member, NodeId};

/// A hash of who founds a cluster: ids, and addresses in their order.
pub(super) fn founders(members: &BTreeMap<NodeId, Member>) -> u64 {
    let mut hasher = XxHash3_64::new();
    for (id, member) in members {
        hasher.write(&id.to_le_bytes());
        hasher.write(&(member.endpoints.len() as u64).to_le_bytes());
        for endpoint in &member.endpoints {
            hasher.write(&(endpoint.len() as u64).to_le_bytes());
            hasher.write(endpoint.as_bytes());
        }
    }
    hasher.finish()
}

/// What to do, after what the others told.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The cluster runs: its leader comes.
    Wait,
    /// Write the first entry.
    Found,
}

/// The cluster runs: there is more than the first entry, or somebody led.
fn runs(told: &Hello) -> bool {
    told.is_led || told.leader.is_some() || told.last.is_some_and(|last| last > 0)
}

fn next(
    own: NodeId,
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
             the same ids and addresses, written the same, and start both again"
        )));
    }
    let (answered, needed) = (told.len() + 1, members.len() / 2 + 1);
    if answered < needed {
        let silent = members.keys().filter(|id| **id != own && !told.contains_key(id));
        let silent: Vec<_> = silent.map(u64::to_string).collect();
        let problem = format!(
            "{answered} of {} members are there and {needed} have to be; no answer from node {}",
            members.len(),
            silent.join(", ")
        );
        return Err(ChangeError::Waiting { problem });
    }
    Ok(Next::Found)
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Founds the cluster of these members, unless it exists.
    ///
    /// All of them do so, with the same members: nobody is elected before a majority has. A node
    /// whose log is empty and that finds the cluster running founds nothing: it waits for the
    /// leader, which knows whether it had a log and says so where it lost one.
    ///
    /// # Errors
    /// `Waiting` while too few members answer: try again. `Refused` where this node is no
    /// member, or another one would found a cluster of other members; `Replica` where this
    /// node has stopped.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Member>) -> Result<(), ChangeError> {
        let id = self.id();
        if !members.contains_key(&id) {
            let known: Vec<_> = members.keys().map(u64::to_string).collect();
            return Err(refused(format!("node {id} is none of {}", known.join(", "))));
        }
        let founded = self.inner.raft.is_initialized().await;
        if founded.map_err(|error| observed::fatal(&error))? {
            return Ok(());
        }
        let others = members.iter().filter(|(other, _)| **other != id);
        let asked = others.map(|(other, member)| async move {
            Some((*other, self.inner.forward.hello(*other, member).await?))
        });
        let told = join_all(asked).await.into_iter().flatten().collect();
        let next = next(id, &members, &told).inspect_err(
            |error| tracing::info!(target: "raft", node = id, %error, "founds nothing"),
        );
        if next? == Next::Wait {
            tracing::info!(target: "raft", node = id, "the cluster runs: waiting for its leader");
            return Ok(());
        }
        match self.inner.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(observed::fatal(&error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[NodeId]) -> BTreeMap<NodeId, Member> {
        let member = |id: &NodeId| Member { endpoints: vec![format!("node-{id}:1")] };
        ids.iter().map(|id| (*id, member(id))).collect()
    }

    fn told(last: Option<u64>, of: &BTreeMap<NodeId, Member>) -> Hello {
        Hello { last, founders: Some(founders(of)), ..Hello::default() }
    }

    #[test]
    fn a_majority_without_entries_founds() {
        let all = members(&[1, 2, 3]);
        let empty = told(None, &all);
        let missing = next(1, &all, &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(
            missing,
            "the cluster is not founded yet: 1 of 3 members are there and 2 have to be; no answer \
             from node 2, 3"
        );
        assert_eq!(next(1, &all, &BTreeMap::from([(3, empty)])).unwrap(), Next::Found);
        // The other has founded just now.
        let first = told(Some(0), &all);
        assert_eq!(next(1, &all, &BTreeMap::from([(2, first)])).unwrap(), Next::Found);
        assert_eq!(next(1, &members(&[1]), &BTreeMap::new()).unwrap(), Next::Found);
    }

    #[test]
    fn a_cluster_that_runs_is_not_founded_again() {
        let all = members(&[1, 2, 3]);
        let (empty, more) = (told(None, &all), told(Some(1), &all));
        assert_eq!(next(1, &all, &BTreeMap::from([(2, empty), (3, more)])).unwrap(), Next::Wait);
        let led = Hello { is_led: true, ..told(Some(0), &all) };
        assert_eq!(next(1, &all, &BTreeMap::from([(2, led)])).unwrap(), Next::Wait);
    }

    #[test]
    fn founders_with_other_members_are_refused() {
        let (all, fewer) = (members(&[1, 2, 3]), members(&[1, 2]));
        let mut moved = all.clone();
        moved.insert(3, Member { endpoints: vec!["elsewhere:1".to_owned()] });
        for other in [fewer, moved] {
            let told = BTreeMap::from([(2, told(None, &other))]);
            let error = next(1, &all, &told).unwrap_err();
            assert!(matches!(error, ChangeError::Refused { .. }), "{error:?}");
            assert!(error.to_string().starts_with("node 2 would found a cluster of other"));
        }
    }
}
