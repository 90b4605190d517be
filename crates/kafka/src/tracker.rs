//! What is assigned to this member of the group, and how far it is done.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::Ledger;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of it.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Names one span of messages of one assignment.
#[derive(Clone, Debug)]
pub struct SpanId {
    of: TopicPartition,
    assignment: u64,
    number: u64,
}

impl SpanId {
    /// The partition.
    pub fn of(&self) -> &TopicPartition {
        &self.of
    }
}

/// The ledgers of all partitions that are assigned. What was read before a
/// partition was taken away is not committed after that, also not when it comes
/// back: somebody else may have read on from there.
#[derive(Debug, Default)]
pub struct Tracker {
    state: Mutex<State>,
    changed: Condvar,
    /// How many wait for spans to be done.
    waiting: watch::Sender<usize>,
}

/// Somebody waits for spans to be done, as long as this is there.
pub(crate) struct Hurry<'a>(&'a Tracker);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

#[derive(Debug, Default)]
struct State {
    assignments: u64,
    assigned: HashMap<TopicPartition, Assigned>,
}

#[derive(Debug)]
struct Assigned {
    assignment: u64,
    ledger: Ledger,
    committed: Option<i64>,
    /// Where the next message is, or after it.
    next: Option<i64>,
}

impl Tracker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition came, or came anew.
    pub fn assign(&self, partition: TopicPartition) {
        let mut state = self.state();
        state.assignments += 1;
        let assignment = state.assignments;
        let assigned =
            Assigned { assignment, ledger: Ledger::default(), committed: None, next: None };
        state.assigned.insert(partition, assigned);
    }

    /// A partition is taken away: the offset to commit for it, which is the last.
    pub fn revoke(&self, partition: &TopicPartition) -> Option<i64> {
        let revoked = self.state().assigned.remove(partition);
        let Assigned { ledger, committed, .. } = revoked?;
        ledger.committable().filter(|offset| Some(*offset) > committed)
    }

    /// A span that was read, up to the offset `end` without it; `None` where the
    /// partition is not assigned.
    pub fn begin(&self, partition: &TopicPartition, end: i64) -> Option<SpanId> {
        let mut state = self.state();
        let assigned = state.assigned.get_mut(partition)?;
        let number = assigned.ledger.begin(end);
        Some(SpanId { of: partition.clone(), assignment: assigned.assignment, number })
    }

    /// The offset before which all of a partition is as durable as asked.
    pub fn committable(&self, partition: &TopicPartition) -> Option<i64> {
        self.state().assigned.get(partition)?.ledger.committable()
    }

    /// Notes where the next message of a partition is expected, or that some came up to
    /// the offset `end`; whether they begin where they should, or after it. Offsets that
    /// go back are of another topic of the same name, or were read before.
    pub fn follows(&self, partition: &TopicPartition, first: i64, end: i64) -> bool {
        let mut state = self.state();
        let Some(assigned) = state.assigned.get_mut(partition) else { return true };
        let follows = assigned.next.is_none_or(|next| first >= next);
        assigned.next = assigned.next.max(Some(end));
        follows
    }

    /// Whether a span is of an assignment that stands.
    pub fn is_current(&self, span: &SpanId) -> bool {
        let state = self.state();
        state.assigned.get(&span.of).is_some_and(|one| one.assignment == span.assignment)
    }

    /// A span is as durable as asked; of an assignment that is over it is
    /// forgotten.
    pub fn done(&self, span: &SpanId) {
        let mut state = self.state();
        let assigned = state.assigned.get_mut(&span.of);
        if let Some(assigned) = assigned.filter(|one| one.assignment == span.assignment) {
            assigned.ledger.done(span.number);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Somebody else has made durable what lies before this offset of a partition.
    pub fn reached(&self, partition: &TopicPartition, offset: i64) {
        if let Some(assigned) = self.state().assigned.get_mut(partition) {
            assigned.ledger.reached(offset);
        }
    }

    /// What can be committed and is not yet. It counts as committed from here on
    /// until [`Tracker::not_committed`] says otherwise.
    pub fn take_committable(&self) -> Vec<(TopicPartition, i64)> {
        let mut state = self.state();
        let ahead = state.assigned.iter_mut().filter_map(|(partition, assigned)| {
            let offset = assigned.ledger.committable()?;
            (Some(offset) > assigned.committed).then(|| {
                assigned.committed = Some(offset);
                (partition.clone(), offset)
            })
        });
        ahead.collect()
    }

    /// A commit failed: it is tried again with the next.
    pub fn not_committed(&self, partition: &TopicPartition) {
        if let Some(assigned) = self.state().assigned.get_mut(partition) {
            assigned.committed = None;
        }
    }

    /// Has whoever waits for more to come with a span not do so.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.waiting.send_modify(|waiting| *waiting = waiting.saturating_add(1));
        Hurry(self)
    }

    /// Waits until somebody is in a hurry.
    pub(crate) async fn hurried(&self) {
        // The sender is in here, so that it cannot be gone.
        drop(self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await);
    }

    /// Waits so long at most until all spans of these partitions are done; whether
    /// they are.
    pub fn wait_blocking(&self, partitions: &[TopicPartition], limit: Duration) -> bool {
        let _hurry = self.hurry();
        let open = |state: &mut State| {
            let of = |one: &TopicPartition| state.assigned.get(one).map(|one| one.ledger.open());
            partitions.iter().any(|partition| of(partition).is_some_and(|open| open > 0))
        };
        let waited = self.changed.wait_timeout_while(self.state(), limit, open);
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !result.timed_out()
    }

    /// Spans that are not done.
    pub fn open_in_all(&self) -> usize {
        self.state().assigned.values().map(|one| one.ledger.open()).sum()
    }

    /// Partitions that are assigned.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.state().assigned.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "logs".into(), partition }
    }

    #[test]
    fn what_was_read_before_a_partition_went_is_not_committed_when_it_is_back() {
        let tracker = Tracker::default();
        tracker.assign(partition(0));
        let first = tracker.begin(&partition(0), 5).unwrap();
        let late = tracker.begin(&partition(0), 9).unwrap();
        tracker.done(&first);
        assert_eq!(tracker.revoke(&partition(0)), Some(5));
        assert!(tracker.begin(&partition(0), 12).is_none() && !tracker.is_current(&late));
        tracker.assign(partition(0));
        tracker.done(&late);
        assert_eq!(tracker.take_committable(), []);
        let again = tracker.begin(&partition(0), 7).unwrap();
        tracker.done(&again);
        assert_eq!(tracker.take_committable(), [(partition(0), 7)]);
    }

    #[test]
    fn what_is_committed_is_committed_once_unless_that_failed() {
        let tracker = Tracker::default();
        tracker.assign(partition(1));
        let span = tracker.begin(&partition(1), 3).unwrap();
        assert!(!tracker.wait_blocking(&[partition(1), partition(2)], Duration::ZERO));
        tracker.done(&span);
        assert_eq!(tracker.take_committable(), [(partition(1), 3)]);
        assert_eq!(tracker.take_committable(), []);
        assert_eq!(tracker.revoke(&partition(1)), None, "it is committed");
        tracker.assign(partition(1));
        let span = tracker.begin(&partition(1), 4).unwrap();
        tracker.done(&span);
        assert_eq!(tracker.take_committable().len(), 1);
        tracker.not_committed(&partition(1));
        assert_eq!(tracker.take_committable(), [(partition(1), 4)]);
    }
}
