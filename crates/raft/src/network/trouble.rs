//! Who takes nothing from this node, and why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::NodeId;

/// What each of the others said when it refused this node's messages last, until it takes one.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    told: Mutex<BTreeMap<NodeId, String>>,
}

impl Troubles {
    fn told(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It refused something. The log has that once, however often it is tried again.
    pub(super) fn refused(&self, node: NodeId, problem: String) {
        let mut told = self.told();
        if !told.contains_key(&node) {
            tracing::error!(target: "raft", node, "{problem}");
        }
        told.insert(node, problem);
    }

    /// It took something.
    pub(super) fn took(&self, node: NodeId) {
        if self.told().remove(&node).is_some() {
            tracing::info!(target: "raft", node, "it takes entries again");
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, String> {
        self.told().clone()
    }
}
