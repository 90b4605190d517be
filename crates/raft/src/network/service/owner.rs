//! Whose log this is: what is meant for another one is refused.
//!
//! The cluster knows each member by its number and by the incarnation of its log, which are
//! part of the replicated members. Every message that would have a node vote or acknowledge
//! says for which log it is.
//!
//! 1. A log takes nothing that is meant for another one.
//! 2. A log without entries takes nothing that names no log.
//!
//! So a node whose log was lost stays without entries, whoever leads: it gives no vote, and
//! acknowledges nothing, until it is a member under another number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::async_runtime::WatchReceiver as _;
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft};
use sheaf_retry::Code;

use crate::network::Refusal;
use crate::types::{NodeId, Types};

/// Which node it is, and what its log was when it was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) id: NodeId,
    /// Tells its log from every other.
    pub(crate) incarnation: u64,
    /// It had no entry.
    pub(crate) is_new: bool,
}

/// The log of this node, to those who are asked to add to it.
pub(super) struct Owner<R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    own: Own,
    pub(super) raft: Raft<Types<R>, S>,
    /// Who was refused last; 0 at first. Each is told of in the log once.
    refused: Arc<AtomicU64>,
}

impl<R, S> Clone for Owner<R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    fn clone(&self) -> Self {
        let (raft, refused) = (self.raft.clone(), Arc::clone(&self.refused));
        Owner { own: self.own, raft, refused }
    }
}

impl<R, S> Owner<R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    pub(super) fn new(own: Own, raft: Raft<Types<R>, S>) -> Self {
        Owner { own, raft, refused: Arc::default() }
    }

    /// It has no entry: it is new, or what it acknowledged is lost. The engine tells of those that
    /// are on disk only when it runs.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_new && self.raft.metrics().borrow_watched().last_log_index.is_none()
    }

    /// Refuses what is meant for another log than this one.
    pub(super) fn check(&self, from: NodeId, incarnation: u64) -> Result<(), Refusal> {
        let Own { id, incarnation: own, .. } = self.own;
        let Some(problem) = problem(id, own, incarnation, || self.is_empty()) else {
            return Ok(());
        };
        if self.refused.swap(from, Ordering::Relaxed) != from {
            tracing::error!(target: "raft", node = id, from, "{problem}");
        }
        Err(Refusal { code: Code::FailedPrecondition, problem })
    }
}

/// Why a message is not for the log of node `id`; 0 names no log.
fn problem(id: NodeId, own: u64, meant: u64, is_empty: impl FnOnce() -> bool) -> Option<String> {
    let advice = "remove it and add it under a new id";
    match meant {
        meant if meant == own && own != 0 => None,
        0 if !is_empty() => None,
        0 => Some(format!(
            "node {id} has no entries, and the cluster does not say which log it should have: \
             its log was lost, or its leader is of an earlier version; {advice}"
        )),
        _ => Some(format!(
            "node {id} has another log than the one that the cluster knows: its log was lost; \
             {advice}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_takes_only_what_is_meant_for_it() {
        assert_eq!(problem(2, 7, 7, || true), None);
        assert_eq!(problem(2, 7, 7, || false), None);
        for is_empty in [true, false] {
            let other = problem(2, 7, 8, || is_empty).unwrap();
            assert!(other.contains("its log was lost"), "{other}");
        }
        // Members of before have no incarnation: their logs go on, and new ones are none.
        assert_eq!(problem(2, 7, 0, || false), None);
        assert!(problem(2, 7, 0, || true).unwrap().contains("no entries"));
    }
}
