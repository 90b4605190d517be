//! What is left to do, and who does it: decisions only, without processes.

use std::collections::{BTreeMap, BTreeSet};

/// Shares that have to be sent, and partitions that have no result yet.
///
/// Worker `n` sends share `n` of each input and holds every partition that is
/// `n` modulo the number of workers. Nothing is read before all was sent.
#[derive(Debug)]
pub(crate) struct Left {
    workers: u32,
    /// Without a result.
    pub(crate) partitions: BTreeSet<u32>,
    shares: BTreeMap<(usize, u32), Share>,
    /// Partitions that are being read, and by whom.
    reading: BTreeMap<u32, u32>,
}

#[derive(Debug, Default)]
struct Share {
    /// How often it was begun.
    attempt: u64,
    /// Partitions that need it.
    needed: BTreeSet<u32>,
    /// Those that it is being sent to.
    sending: BTreeSet<u32>,
}

/// What a worker can do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Send { input: usize, attempt: u64, only: BTreeSet<u32> },
    Reduce { partition: u32, holder: u32 },
}

impl Left {
    pub(crate) fn new(inputs: impl Iterator<Item = usize>, workers: u32, partitions: u32) -> Self {
        let partitions: BTreeSet<u32> = (0..partitions).collect();
        let share = || Share { needed: partitions.clone(), ..Share::default() };
        let keys = inputs.flat_map(|input| (0..workers).map(move |share| (input, share)));
        let shares = keys.map(|key| (key, share())).collect();
        Left { workers, partitions, shares, reading: BTreeMap::new() }
    }

    /// Whether a worker has sent all that is its to send, of all inputs.
    pub(crate) fn has_sent(&self, worker: u32) -> bool {
        let mut its = self.shares.iter().filter(|((_, share), _)| *share == worker);
        its.all(|(_, share)| share.needed.is_empty() && share.sending.is_empty())
    }

    /// Takes what an idle worker does next; one without partitions helps another.
    pub(crate) fn next(&mut self, worker: u32) -> Option<Next> {
        let mut its = self.shares.iter_mut().filter(|((_, of), _)| *of == worker);
        if let Some(((input, _), share)) = its.find(|(_, share)| !share.needed.is_empty()) {
            share.attempt += 1;
            share.sending = std::mem::take(&mut share.needed);
            let (attempt, only) = (share.attempt, share.sending.clone());
            return Some(Next::Send { input: *input, attempt, only });
        }
        if !(0..self.workers).all(|worker| self.has_sent(worker)) {
            return None;
        }
        let holder = |partition: u32| partition % self.workers;
        let mut free = self.partitions.iter().filter(|one| !self.reading.contains_key(one));
        let own = free.clone().find(|one| holder(**one) == worker);
        let partition = *own.or_else(|| free.next_back())?;
        self.reading.insert(partition, worker);
        Some(Next::Reduce { partition, holder: holder(partition) })
    }

    /// A share was sent, or has to be sent again.
    pub(crate) fn sent(&mut self, input: usize, worker: u32, is_whole: bool) {
        let share = self.shares.entry((input, worker)).or_default();
        let mut sending = std::mem::take(&mut share.sending);
        if !is_whole {
            share.needed.append(&mut sending);
        }
    }

    /// A partition has its result, or has to be read again.
    pub(crate) fn reduced(&mut self, partition: u32, is_whole: bool) {
        self.reading.remove(&partition);
        if is_whole {
            self.partitions.remove(&partition);
        }
    }

    /// A worker is gone: with it what it was at, and what it held.
    pub(crate) fn worker_lost(&mut self, worker: u32) {
        self.reading.retain(|_, reader| *reader != worker);
        let held = self.partitions.iter().filter(|one| **one % self.workers == worker);
        let held: BTreeSet<u32> = held.copied().collect();
        for ((_, of), share) in &mut self.shares {
            if *of == worker {
                share.needed.append(&mut share.sending);
            }
            share.needed.extend(&held);
        }
    }
}
