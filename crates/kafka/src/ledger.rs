//! Which offsets of a partition may be committed.

use std::collections::VecDeque;

/// Spans of consecutive messages of one partition, in the order in which they
/// were read, and which of them are as durable as asked.
///
/// 1. Committable is the offset behind the last span that is done and has none
///    before it that is not, or what others have reached if that is more: what comes after a span that failed is never
///    committed, however durable it is.
/// 2. It never falls.
/// 3. Offsets may have gaps (compaction, markers of transactions): a span says
///    where it ends, not how many messages it has.
#[derive(Debug, Default)]
pub struct Ledger {
    committable: Option<i64>,
    /// Number of the first open span.
    first: u64,
    open: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    /// The offset behind its last message.
    end: i64,
    is_done: bool,
}

impl Ledger {
    /// A span of messages that were read just now, up to the offset `end`
    /// without it; its number.
    pub fn begin(&mut self, end: i64) -> u64 {
        self.open.push_back(Span { end, is_done: false });
        self.first + self.open.len() as u64 - 1
    }

    /// A span is as durable as asked; whether more can be committed now.
    pub fn done(&mut self, number: u64) -> bool {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(span) = at.and_then(|at| self.open.get_mut(at)) else { return false };
        span.is_done = true;
        let before = self.committable;
        while self.open.front().is_some_and(|span| span.is_done) {
            let Some(span) = self.open.pop_front() else { break };
            self.first += 1;
            self.committable = self.committable.max(Some(span.end));
        }
        self.committable != before
    }

    /// Somebody else has made durable what lies before this offset.
    pub fn reached(&mut self, offset: i64) {
        self.committable = self.committable.max(Some(offset));
    }

    /// The offset to go on from after a restart; `None` where nothing is done.
    pub fn committable(&self) -> Option<i64> {
        self.committable
    }

    /// Spans that are not done, or have one before them that is not.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_a_span_that_is_not_done_can_be_committed() {
        let mut ledger = Ledger::default();
        let spans: Vec<_> = [10, 25, 30].map(|end| ledger.begin(end)).into();
        assert!(!ledger.done(spans[1]), "the one before is open");
        assert_eq!(ledger.committable(), None);
        assert!(!ledger.done(spans[2]));
        assert!(ledger.done(spans[0]));
        assert_eq!((ledger.committable(), ledger.open()), (Some(30), 0));
        let last = ledger.begin(31);
        assert_eq!(ledger.committable(), Some(30));
        assert!(ledger.done(last) && !ledger.done(last) && !ledger.done(99));
        assert_eq!(ledger.committable(), Some(31));
    }

    #[test]
    fn what_others_have_reached_can_be_committed() {
        let mut ledger = Ledger::default();
        let [first, second] = [10, 20].map(|end| ledger.begin(end));
        ledger.reached(14);
        assert_eq!(ledger.committable(), Some(14));
        ledger.done(first);
        assert_eq!(ledger.committable(), Some(14), "it never falls");
        ledger.done(second);
        assert_eq!(ledger.committable(), Some(20));
    }
}
