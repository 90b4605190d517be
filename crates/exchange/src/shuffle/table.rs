//! What was received: a state machine without clock, network or lock.
//!
//! Its numbered invariants are those of [the module above](super).

mod attempt;
mod available;
mod partition;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sheaf_flight::{Budget, Message};

pub use available::{AvailablePartition, AvailablePartitions, Skew};
pub(super) use partition::{Mode, Partition, Step};

use super::error::Error;
use super::key::{PartitionKey, Sender, Totals};

/// Cleaned-up queries that are remembered, to refuse who comes late.
const REMEMBERED: usize = 4_096;

/// By stage and partition.
type Partitions = BTreeMap<(u32, u32), Partition>;

/// What a process has received of all queries.
#[derive(Debug)]
pub(super) struct Table {
    budget: Arc<Budget>,
    /// The number of the partition that is made next, never the same again.
    next_incarnation: u64,
    queries: HashMap<String, Partitions>,
    gone: HashSet<String>,
    /// The same in the order in which they were cleaned up.
    gone_in_order: VecDeque<String>,
}

/// What was dropped; its memory is freed with it, best not under a lock.
#[derive(Debug, Default)]
pub(super) struct Dropped(Option<Partitions>);

impl Dropped {
    /// How many partitions there were.
    pub(super) fn partitions(&self) -> usize {
        self.0.as_ref().map_or(0, BTreeMap::len)
    }
}

impl Table {
    /// Numbers its partitions from `first_incarnation` on, which is another one
    /// in every process.
    pub(super) fn new(budget: Arc<Budget>, first_incarnation: u64) -> Self {
        let (queries, gone, gone_in_order) = Default::default();
        let next_incarnation = first_incarnation;
        Table { budget, next_incarnation, queries, gone, gone_in_order }
    }

    /// A sender begins an attempt, or goes on with it; the chunk that is next.
    pub(super) fn begin(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        schema: &Message,
    ) -> Result<u64, Error> {
        sender.check()?;
        self.check_not_gone(key.query())?;
        let budget = Arc::clone(&self.budget);
        if let Ok(partition) = self.found(key) {
            return partition.begin(&budget, key, sender, schema);
        }
        // What cannot begin leaves no partition either.
        let mut partition =
            Partition::try_new(&budget, self.next_incarnation, key, sender, schema)?;
        let next = partition.begin(&budget, key, sender, schema)?;
        self.next_incarnation += 1;
        let partitions = self.queries.entry(key.query().to_owned()).or_default();
        partitions.insert((key.stage(), key.partition()), partition);
        Ok(next)
    }

    /// Takes a chunk whose CRC32C was computed; whether it is new.
    pub(super) fn push(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        sequence: u64,
        crc: u32,
        message: Message,
    ) -> Result<bool, Error> {
        self.check_not_gone(key.query())?;
        let budget = Arc::clone(&self.budget);
        self.found(key)?.push(&budget, key, sender, sequence, crc, message)
    }

    /// A sender has sent everything.
    pub(super) fn commit(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        totals: Totals,
    ) -> Result<(), Error> {
        self.check_not_gone(key.query())?;
        self.found(key)?.commit(key, sender, totals)
    }

    /// What a reader at a position gets.
    pub(super) fn next(
        &mut self,
        key: &PartitionKey,
        position: u64,
        mode: Mode,
    ) -> Result<Step, Error> {
        self.found(key)?.next(key, position, mode)
    }

    /// Frees the chunks before a position, which were read; what they were.
    pub(super) fn consume(
        &mut self,
        key: &PartitionKey,
        position: u64,
    ) -> Result<Vec<Arc<super::chunk::Chunk>>, Error> {
        self.found(key)?.consume(key, position)
    }

    /// The schema message of a partition, and which incarnation of it this is.
    pub(super) fn schema(&self, key: &PartitionKey) -> Result<(Message, u64), Error> {
        match self.partition(key) {
            Some(partition) => Ok((partition.schema(), partition.incarnation)),
            None => {
                self.check_not_gone(key.query())?;
                Err(Error::NotFound { key: key.clone() })
            }
        }
    }

    /// Drops all of a query and refuses it from now on.
    pub(super) fn clean_up(&mut self, query: &str) -> Dropped {
        if self.gone.insert(query.to_owned()) {
            self.gone_in_order.push_back(query.to_owned());
        }
        while self.gone_in_order.len() > REMEMBERED {
            if let Some(oldest) = self.gone_in_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
        Dropped(self.queries.remove(query))
    }

    /// What is here of one stage.
    pub(super) fn available(&self, query: &str, stage: u32) -> Result<AvailablePartitions, Error> {
        self.check_not_gone(query)?;
        let all = self.queries.get(query).into_iter().flatten();
        let here = all.filter(|((its, _), _)| *its == stage);
        let partitions: Vec<_> =
            here.map(|((_, number), partition)| partition.report(*number)).collect();
        if partitions.is_empty() {
            return Err(Error::NoStage { query: query.to_owned(), stage });
        }
        Ok(AvailablePartitions::new(query, stage, partitions))
    }

    /// Names of the queries of which something is here.
    pub(super) fn queries(&self) -> Vec<String> {
        let mut names: Vec<_> = self.queries.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Keys of the partitions of a query.
    pub(super) fn keys(&self, query: &str) -> Vec<(u32, u32)> {
        self.queries.get(query).into_iter().flatten().map(|(at, _)| *at).collect()
    }

    fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        self.queries.get(key.query())?.get(&(key.stage(), key.partition()))
    }

    fn found(&mut self, key: &PartitionKey) -> Result<&mut Partition, Error> {
        let at = (key.stage(), key.partition());
        let Some(found) = self.queries.get_mut(key.query()).and_then(|all| all.get_mut(&at)) else {
            if self.gone.contains(key.query()) {
                return Err(Error::CleanedUp { query: key.query().to_owned() });
            }
            return Err(Error::NotFound { key: key.clone() });
        };
        Ok(found)
    }

    fn check_not_gone(&self, query: &str) -> Result<(), Error> {
        if self.gone.contains(query) {
            return Err(Error::CleanedUp { query: query.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
