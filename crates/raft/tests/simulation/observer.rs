//! Sees everything that happens, and what must not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openraft::async_runtime::Instant as _;
use openraft_rt_sim::SimInstant;
use sheaf_raft::types::{LogId, NodeId};

use crate::registers::hash;

/// One thing that must not happen, and did.
pub(crate) type Violation = String;

/// Crashes by what they made of bytes that were not synced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    /// There were some.
    pub(crate) some: usize,
    /// Some were kept, or others in their place.
    pub(crate) torn: usize,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// The hash of everything, in its order.
    trace: u64,
    /// Counts what was seen: the time of the clients.
    step: u64,
    leaders: BTreeMap<u64, NodeId>,
    /// What was applied at each index: the term, and a hash of the entry.
    applied: BTreeMap<u64, (u64, u64)>,
    /// How far each node applied, since it started.
    reached: BTreeMap<NodeId, u64>,
    /// The index of each command.
    commands: BTreeMap<u64, u64>,
    acknowledged: BTreeSet<u64>,
    losses: Losses,
    violations: Vec<Violation>,
}

/// Whoever has it tells it what it does.
#[derive(Default)]
pub(crate) struct Observer {
    seen: Mutex<Seen>,
}

impl Observer {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something to the trace; returns the number of the step.
    pub(crate) fn note(&self, words: impl IntoIterator<Item = u64>) -> u64 {
        let now = SimInstant::now().elapsed_since_start();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut seen = self.seen();
        seen.step += 1;
        seen.trace = hash([seen.trace, now, hash(words)]);
        seen.step
    }

    /// Some node leads in a term: no other does, ever. (Raft, 5.2: election safety)
    pub(crate) fn leads(&self, term: u64, node: NodeId) {
        let mut seen = self.seen();
        let first = *seen.leaders.entry(term).or_insert(node);
        if first != node {
            seen.violations.push(format!("nodes {first} and {node} both lead in term {term}"));
        }
    }

    /// A node applied an entry: all others have the same there. (Raft, 5.4.3: state machine
    /// safety)
    pub(crate) fn applied(&self, node: NodeId, id: LogId, entry: u64, command: Option<u64>) {
        self.note([1, node, id.index, entry]);
        let mut seen = self.seen();
        let index = id.index;
        let reached = seen.reached.insert(node, index);
        if reached.is_some_and(|reached| reached + 1 != index) {
            let reached = reached.unwrap_or(0);
            seen.violations.push(format!("node {node} applied {index} after {reached}"));
        }
        let here = (*id.leader_id, entry);
        let first = *seen.applied.entry(index).or_insert(here);
        if first != here {
            let problem = format!("node {node} applied {here:x?} at {index}, another {first:x?}");
            seen.violations.push(problem);
        }
        if let Some(command) = command {
            let first = *seen.commands.entry(command).or_insert(index);
            if first != index {
                seen.violations.push(format!("a command is applied at {first} and at {index}"));
            }
        }
    }

    /// A node has the state of a snapshot.
    pub(crate) fn restored(&self, node: NodeId, last: Option<LogId>) {
        self.note([2, node, last.map_or(0, |last| last.index)]);
        let mut seen = self.seen();
        match last {
            Some(last) => seen.reached.insert(node, last.index),
            None => seen.reached.remove(&node),
        };
    }

    /// A node crashed: so many bytes were not synced, and so many are there.
    pub(crate) fn crashed(&self, node: NodeId, (there, left): (usize, usize)) {
        self.note([6, node, there as u64, left as u64]);
        let mut seen = self.seen();
        seen.losses.some += usize::from(there > 0);
        seen.losses.torn += usize::from(there > 0 && left > 0);
    }

    /// What crashes lost.
    pub(crate) fn losses(&self) -> Losses {
        self.seen().losses
    }

    /// A client was told that its command is done.
    pub(crate) fn acknowledged(&self, command: u64) {
        self.seen().acknowledged.insert(command);
    }

    /// How many commands were acknowledged.
    pub(crate) fn acknowledged_count(&self) -> usize {
        self.seen().acknowledged.len()
    }

    /// Something else that must not happen.
    pub(crate) fn violation(&self, problem: impl Into<String>) {
        self.seen().violations.push(problem.into());
    }

    /// At the end: whatever was acknowledged is applied.
    pub(crate) fn finish(&self) {
        let mut seen = self.seen();
        let lost = seen.acknowledged.iter().filter(|c| !seen.commands.contains_key(c)).count();
        if lost > 0 {
            seen.violations.push(format!("{lost} acknowledged commands are nowhere"));
        }
    }

    /// The hash of everything that happened.
    pub(crate) fn trace(&self) -> u64 {
        self.seen().trace
    }

    /// What must not have happened.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.seen().violations.clone()
    }
}
