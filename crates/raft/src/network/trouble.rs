//! Who takes nothing from this node, and why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Lane;
use crate::types::NodeId;

/// What each of the others said when it refused this node's messages last, until it takes one. A
/// snapshot may be refused for want of room while heartbeats are taken.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    told: Mutex<BTreeMap<NodeId, BTreeMap<Lane, String>>>,
}

impl Troubles {
    fn told(&self) -> MutexGuard<'_, BTreeMap<NodeId, BTreeMap<Lane, String>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It refused something. The log has that once, however often it is tried again.
    pub(super) fn refused(&self, node: NodeId, lane: Lane, problem: String) {
        let mut told = self.told();
        let lanes = told.entry(node).or_default();
        if lanes.is_empty() {
            tracing::error!(target: "raft", node, "{problem}");
        }
        lanes.insert(lane, problem);
    }

    /// It took something of this lane. Who takes entries needs no snapshot.
    pub(super) fn took(&self, node: NodeId, lane: Lane) {
        let mut told = self.told();
        let Some(lanes) = told.get_mut(&node) else { return };
        lanes.remove(&lane);
        if lane == Lane::Data {
            lanes.remove(&Lane::Bulk);
        }
        if lanes.is_empty() {
            told.remove(&node);
            tracing::info!(target: "raft", node, "it takes entries again");
        }
    }

    /// One of each node.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, String> {
        let told = self.told();
        let first = told.iter().map(|(node, lanes)| Some((*node, lanes.values().next()?.clone())));
        first.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_is_refused_is_a_trouble_though_heartbeats_are_taken() {
        let troubles = Troubles::default();
        let problem = || troubles.all().remove(&2);
        troubles.refused(2, Lane::Bulk, "no room".to_owned());
        troubles.took(2, Lane::Control);
        assert_eq!(problem().as_deref(), Some("no room"));
        troubles.took(2, Lane::Bulk);
        assert_eq!(problem(), None);
        // It came by entries after all.
        troubles.refused(2, Lane::Bulk, "no room".to_owned());
        troubles.refused(2, Lane::Control, "no".to_owned());
        troubles.took(2, Lane::Data);
        assert_eq!(problem().as_deref(), Some("no"));
        troubles.took(2, Lane::Control);
        assert_eq!(problem(), None);
    }
}
