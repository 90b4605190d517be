//! What has to be acknowledged further down before something may be acknowledged further up.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::outlet::Stream;

/// Counts what came in against what went out.
///
/// What came in is acknowledged when every stream has acknowledged all that had been put into it
/// when the last of what came of it was put in. Where nothing came of it, it waits for nothing
/// but what came in before it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// One after another: how much is done, and the last sequence of each stream.
    marks: VecDeque<u64>,
    done: u64,
    acknowledged: u64,
}

impl Ledger {
    /// So much of what came in is done with; all that comes of it is in the streams.
    pub(crate) fn mark(&mut self, done: u64, streams: &[Arc<Stream>]) {
        self.mark_with(done, streams.iter().map(|stream| stream.last()));
    }

    fn mark_with(&mut self, done: u64, lasts: impl Iterator<Item = u64>) {
        if done > self.done {
            self.done = done;
            self.marks.push_back(done);
            self.marks.extend(lasts);
        }
    }

    /// So much of what came in is done with, and somebody else sees to what came of it.
    pub(crate) fn pass(&mut self, done: u64) {
        self.done = self.done.max(done);
    }

    /// How much of what came in may be acknowledged now; `None` where it is no more than before.
    pub(crate) fn collect(&mut self, streams: &[Arc<Stream>]) -> Option<u64> {
        self.collect_with(streams.len(), |index| streams[index].acknowledged())
    }

    fn collect_with(&mut self, width: usize, acknowledged: impl Fn(usize) -> u64) -> Option<u64> {
        let before = self.acknowledged;
        while let Some(&done) = self.marks.front() {
            let is_past =
                |index| self.marks.get(index + 1).is_some_and(|&m| m <= acknowledged(index));
            if !(0..width).all(is_past) {
                break;
            }
            self.marks.drain(..=width);
            self.acknowledged = done;
        }
        (self.acknowledged > before).then_some(self.acknowledged)
    }

    /// Whether nothing waits for an acknowledgement.
    pub(crate) fn is_settled(&self) -> bool {
        self.marks.is_empty()
    }

    /// How much was ever done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stream_decides() {
        let mut ledger = Ledger::default();
        ledger.mark_with(1, [1, 1].into_iter());
        ledger.mark_with(2, [2, 1].into_iter());
        ledger.mark_with(3, [2, 2].into_iter());
        let mut collect = |acknowledged: [u64; 2]| ledger.collect_with(2, |i| acknowledged[i]);
        assert_eq!(collect([2, 0]), None);
        assert_eq!(collect([2, 1]), Some(2));
        assert_eq!(collect([2, 1]), None);
        assert_eq!(collect([2, 2]), Some(3));
        assert!(ledger.is_settled());
    }

    #[test]
    fn what_nothing_came_of_waits_only_for_what_was_before_it() {
        let mut ledger = Ledger::default();
        ledger.mark_with(1, [0].into_iter());
        assert_eq!(ledger.collect_with(1, |_| 0), Some(1));
        ledger.mark_with(2, [1].into_iter());
        ledger.mark_with(3, [1].into_iter());
        assert_eq!(ledger.collect_with(1, |_| 0), None);
        assert_eq!(ledger.collect_with(1, |_| 1), Some(3));
    }

    #[test]
    fn without_readers_all_is_acknowledged_at_once() {
        let mut ledger = Ledger::default();
        ledger.mark_with(7, std::iter::empty());
        ledger.mark_with(7, std::iter::empty());
        assert_eq!(ledger.collect_with(0, |_| 0), Some(7));
        assert!(ledger.is_settled());
    }
}
