//! What was received: a state machine without clock, network or lock.
//!
//! Its numbered invariants are those of [the module above](super).

mod attempt;
mod available;
mod cells;
mod cold;
mod idle;
mod lead;
mod partition;
mod schema;
mod stats;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::{Budget, Message};

pub use available::{AvailablePartition, AvailablePartitions, Skew};
pub(super) use lead::Turn;
pub(super) use partition::{Mode, Partition, Step};
pub(super) use schema::has_dictionaries;
pub use stats::{QueryStats, ShuffleStats, StageStats};

use self::lead::Lead;
use self::schema::SchemaOf;
use super::chunk::Place;
use super::error::{Error, Gone};
use super::key::{PartitionKey, Sender, Totals};
use super::metrics::{Counted, Counts, Own};

/// Cleaned-up queries that are remembered, to refuse who comes late.
const REMEMBERED: usize = 4_096;

/// By stage and partition.
type Partitions = BTreeMap<(u32, u32), Partition>;

/// One query.
#[derive(Debug)]
struct Query {
    partitions: Partitions,
    /// By stage, of those with dictionaries that are read.
    leads: BTreeMap<u32, Lead>,
    /// When it began, and when something of it was last sent or read, as told.
    began: Option<Duration>,
    touched: Duration,
    _counted: Counted,
}

impl Query {
    fn new(counts: &Counts) -> Self {
        let (partitions, leads, began, touched) = Default::default();
        Query { partitions, leads, began, touched, _counted: Counted::new(&counts.queries) }
    }
}

/// What a process has received of all queries.
#[derive(Debug)]
pub(super) struct Table {
    budget: Arc<Budget>,
    counts: Counts,
    /// The number of the partition that is made next, never the same again.
    next_incarnation: u64,
    queries: HashMap<String, Query>,
    gone: HashMap<String, Gone>,
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
        let counts = Counts::default();
        Table { budget, counts, next_incarnation, queries, gone, gone_in_order }
    }

    /// Has it count here.
    pub(super) fn counting(mut self, counts: Counts) -> Self {
        self.counts = Counts { own: Arc::default(), ..counts };
        self
    }

    /// What this table has, known without its lock.
    pub(super) fn own(&self) -> Arc<Own> {
        Arc::clone(&self.counts.own)
    }

    /// Whether an attempt of a sender has begun, or committed, in any partition of
    /// the stage.
    pub(super) fn has_begun(&self, key: &PartitionKey, sender: Sender) -> bool {
        let Some(query) = self.queries.get(key.query()) else { return false };
        let mut its = query.partitions.range((key.stage(), 0)..=(key.stage(), u32::MAX));
        its.any(|(_, partition)| partition.has_begun(sender))
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
        let (budget, counts) = (Arc::clone(&self.budget), self.counts.clone());
        if let Ok(partition) = self.found(key) {
            return partition.begin(&budget, &counts, key, sender, schema);
        }
        // What cannot begin leaves no partition either.
        let known = self.schema_of_stage(key, schema);
        let known = known.map_or_else(|| SchemaOf::try_new(&budget, schema).map(Arc::new), Ok)?;
        let mut partition =
            Partition::try_new(&budget, &counts, self.next_incarnation, key, sender, known)?;
        let next = partition.begin(&budget, &counts, key, sender, schema)?;
        self.next_incarnation += 1;
        let query = self.queries.entry(key.query().to_owned());
        let query = query.or_insert_with(|| Query::new(&counts));
        query.partitions.insert((key.stage(), key.partition()), partition);
        Ok(next)
    }

    /// The same schema, where another partition of the stage has it.
    fn schema_of_stage(&self, key: &PartitionKey, schema: &Message) -> Option<Arc<SchemaOf>> {
        let stage = (key.stage(), 0)..=(key.stage(), u32::MAX);
        let (_, other) = self.queries.get(key.query())?.partitions.range(stage).next()?;
        other.schema().is(schema).then(|| Arc::clone(other.schema()))
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
        let rows = self.found(key)?.push(key, sender, sequence, crc, message)?;
        self.counts.rows.inc_by(rows.unwrap_or(0));
        Ok(rows.is_some())
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
        if !self.found(key)?.schema().has_dictionaries {
            return self.found(key)?.next(key, position, mode, &mut Lead::default());
        }
        let query = self.queries.get_mut(key.query());
        let Some(Query { partitions, leads, .. }) = query else {
            return Err(Error::NotFound { key: key.clone() });
        };
        let lead = leads.entry(key.stage()).or_default();
        match partitions.get_mut(&(key.stage(), key.partition())) {
            Some(partition) => partition.next(key, position, mode, lead),
            None => Err(Error::NotFound { key: key.clone() }),
        }
    }

    /// Frees the chunks before a position, which were read; what held them.
    pub(super) fn consume(
        &mut self,
        key: &PartitionKey,
        position: u64,
    ) -> Result<Vec<Place>, Error> {
        self.found(key)?.consume(key, position)
    }

    /// The schema message of a partition, and which incarnation of it this is.
    pub(super) fn schema(&self, key: &PartitionKey) -> Result<(Message, u64), Error> {
        match self.partition(key) {
            Some(partition) => Ok((partition.schema().message(), partition.incarnation)),
            None => {
                self.check_not_gone(key.query())?;
                Err(Error::NotFound { key: key.clone() })
            }
        }
    }

    /// Drops all of a query and refuses it from now on.
    pub(super) fn clean_up(&mut self, query: &str, why: Gone) -> Dropped {
        if self.gone.insert(query.to_owned(), why).is_none() {
            self.gone_in_order.push_back(query.to_owned());
        }
        while self.gone_in_order.len() > REMEMBERED {
            if let Some(oldest) = self.gone_in_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
        Dropped(self.queries.remove(query).map(|query| query.partitions))
    }

    /// Names of the queries of which something is here.
    pub(super) fn queries(&self) -> Vec<String> {
        let mut names: Vec<_> = self.queries.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Keys of the partitions of a query.
    pub(super) fn keys(&self, query: &str) -> Vec<(u32, u32)> {
        self.partitions(query).map(|(at, _)| *at).collect()
    }

    fn partitions(&self, query: &str) -> impl Iterator<Item = (&(u32, u32), &Partition)> {
        self.queries.get(query).into_iter().flat_map(|query| &query.partitions)
    }

    fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        self.queries.get(key.query())?.partitions.get(&(key.stage(), key.partition()))
    }

    fn found(&mut self, key: &PartitionKey) -> Result<&mut Partition, Error> {
        let at = (key.stage(), key.partition());
        let query = self.queries.get_mut(key.query());
        let Some(found) = query.and_then(|query| query.partitions.get_mut(&at)) else {
            check_not_gone(&self.gone, key.query())?;
            return Err(Error::NotFound { key: key.clone() });
        };
        Ok(found)
    }

    fn check_not_gone(&self, query: &str) -> Result<(), Error> {
        check_not_gone(&self.gone, query)
    }
}

fn check_not_gone(gone: &HashMap<String, Gone>, query: &str) -> Result<(), Error> {
    match gone.get(query) {
        Some(why) => Err(Error::CleanedUp { query: query.to_owned(), why: *why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
