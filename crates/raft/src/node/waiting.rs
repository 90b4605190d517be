//! Who waits for which entry.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

/// Waiters by the entry they wait for, woken in its order: the same on every run.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_index: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl Waiting {
    /// Waits for the entry.
    pub(super) fn add(&mut self, index: u64) -> oneshot::Receiver<()> {
        let (done, waits) = oneshot::channel();
        let waiters = self.by_index.entry(index).or_default();
        // Those that gave up make room for those that come.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(done);
        waits
    }

    /// Wakes those who waited for this entry or one before.
    pub(super) fn reach(&mut self, index: u64) {
        while let Some(first) = self.by_index.first_entry() {
            if *first.key() > index {
                break;
            }
            for waiter in first.remove() {
                // Whoever gave up is not there.
                waiter.send(()).ok();
            }
        }
    }

    /// Lets everybody go: the entry will not come.
    pub(super) fn clear(&mut self) {
        self.by_index.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_woken_up_to_the_entry() {
        let mut waiting = Waiting::default();
        let (mut early, mut late) = (waiting.add(3), waiting.add(5));
        waiting.reach(2);
        assert!(early.try_recv().is_err());
        waiting.reach(4);
        assert_eq!(early.try_recv(), Ok(()));
        assert_eq!(late.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        waiting.clear();
        assert_eq!(late.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
