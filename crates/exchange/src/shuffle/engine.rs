//! The receiving side of a process: the table, and readers that wait for it.

mod end;
mod options;
mod promises;
mod reader;
mod room;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use sheaf_flight::{Budget, MemoryBudget, Message};
use sheaf_retry::{Code, SharedClock};
use tokio::runtime::Handle;
use tokio::sync::Notify;

pub(crate) use self::end::UnderWay;
pub use self::options::{DEFAULT_IDLE, ReceiverOptions};
use self::promises::Promises;
pub(super) use self::promises::{Claim, Promise};
pub(crate) use self::reader::{Item, Reader};
use self::room::Spill;
use super::chunk::crc32c_of;
use super::error::{Error, Gone};
use super::key::{PartitionKey, Sender, Totals};
use super::metrics::{Own, ReceiverMetrics};
use super::placement::WorkerLoad;
use super::spill::SpillDirectory;
use super::table::{AvailablePartition, AvailablePartitions, ShuffleStats, Table};

/// Longest time that a reader waits in one call.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// How often who waits for room looks by himself.
const ROOM_AFTER: Duration = Duration::from_millis(50);

/// How long a page of a reader that consumes waits for more.
const PAGE_IDLE: Duration = Duration::from_millis(5);

/// Waiting readers above which those that left are looked for.
const MANY_WAITING: usize = 1_024;

/// Senders that are counted together while all others wait.
const SENDERS_AT_ONCE: u64 = 8_192;

/// How a partition is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The first chunk that is wanted.
    pub from_sequence: u64,
    /// Chunks are wanted as they come; otherwise only once all senders have committed.
    pub pipelined: bool,
    /// Chunks before `from_sequence` are not wanted any more, by nobody.
    pub consume: bool,
    /// Bytes after which the stream ends, at a whole chunk; 0 means none. One that
    /// consumes ends earlier where nothing more comes: the memory of what was read
    /// may be what the next chunk waits for.
    pub max_bytes: u64,
    /// The incarnation of the partition that was read so far, which the schema
    /// message of a get says; 0 for any. Where a worker was restarted, or a query
    /// begun anew, positions mean other chunks, and the read is refused.
    pub incarnation: u64,
    /// How long to wait for what is not there yet: at most [`MAX_WAIT`].
    pub wait: Duration,
}

/// Partitions that a process has received. Cheap to clone; clones are the same.
///
/// What holds for it is in the invariants of [the module](super). Nothing waits
/// for memory with bytes in hand that a reader would free: where there is none, a put is
/// refused with `memory_full` and comes again, and a conversation gets no credit, so
/// that nobody stands in the reader's way.
///
/// One that was [opened](Exchange::open) with a directory to spill to moves chunks
/// there from the time on that three quarters of its memory are in use, and until
/// half is: those first that nobody reads yet, of the largest partitions. Its memory is
/// what others leave of the budget, and [who can](ReceiverOptions::with_beside) is asked
/// first to leave more. They are read back, and checked, when their reader comes to them. Where the disk is full
/// too, senders wait as before.
///
/// A partition that was consumed to its end has no chunks any more, in memory or on
/// disk. Its numbers stay until the query goes: a sender whose answer was lost comes
/// again with its last chunks and its commit, and is told the same as before.
#[derive(Clone)]
pub struct Exchange {
    shared: Arc<Shared>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { budget, spill, idle, .. } = &*self.shared;
        let mut shown = f.debug_struct("Exchange");
        shown.field("budget", budget).field("spill", spill).field("idle", idle);
        shown.finish_non_exhaustive()
    }
}

struct Shared {
    budget: Arc<Budget>,
    clock: SharedClock,
    /// Room that senders may count on.
    promises: Arc<Promises>,
    /// Woken where chunks were freed.
    freed: Arc<Notify>,
    state: Mutex<State>,
    own: Arc<Own>,
    spill: Option<Spill>,
    /// Who else makes room, and whether it is asked to.
    beside: Option<Arc<dyn MemoryBudget>>,
    is_asking: AtomicBool,
    idle: Duration,
    metrics: ReceiverMetrics,
    is_draining: AtomicBool,
    /// Told when attempts have ended.
    ended: Notify,
}

impl Shared {
    fn note_spill(&self) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let spilled = self.spill.as_ref().map_or(0, |spill| spill.directory.used());
        self.metrics.spill_bytes.set(gauge(spilled));
    }
}

#[derive(Debug)]
struct State {
    table: Table,
    waiting: HashMap<PartitionKey, Arc<Notify>>,
}

impl State {
    /// Wakes who waits for a partition; they look again.
    fn changed(&mut self, key: &PartitionKey) {
        if let Some(notify) = self.waiting.remove(key) {
            notify.notify_waiters();
        }
    }

    /// Wakes who waits for any partition of a query.
    fn forget(&mut self, query: &str) {
        self.waiting.retain(|key, notify| {
            let is_other = key.query() != query;
            if !is_other {
                notify.notify_waiters();
            }
            is_other
        });
    }
}

impl Exchange {
    /// Nothing received yet; what comes counts in `budget`, and stays in memory.
    /// Queries that nobody uses go when [`Exchange::sweep`] is called.
    pub fn new(budget: Arc<Budget>, clock: SharedClock) -> Self {
        Self::with(ReceiverOptions::new(budget, clock), None)
    }

    /// Nothing received yet. Takes the directory to spill to, and begins to look
    /// for queries that nobody uses.
    ///
    /// # Errors
    /// [`Error::SpillLocked`] where another process has the directory,
    /// [`Error::SpillIo`] where it cannot be used.
    pub async fn open(options: ReceiverOptions) -> Result<Self, Error> {
        let spill = match options.spill.clone() {
            None => None,
            Some((path, limit)) => {
                let disk = Arc::clone(&options.disk);
                let open = move || SpillDirectory::open(&path, limit, disk);
                let lost = |_| sheaf_flight::Error::new(Code::Internal, "an open was lost");
                let opened = tokio::task::spawn_blocking(open).await.map_err(lost)?;
                Some(Spill::new(opened?, Handle::current()))
            }
        };
        let exchange = Self::with(options, spill);
        drop(tokio::spawn(end::sweep_on(Arc::downgrade(&exchange.shared))));
        Ok(exchange)
    }

    fn with(options: ReceiverOptions, spill: Option<Spill>) -> Self {
        let ReceiverOptions { budget, clock, idle, beside, metrics, seed, .. } = options;
        // So many bits every reader of JSON keeps; 0 means any.
        let first = (seed >> 11).max(1);
        let table = Table::new(Arc::clone(&budget), first).counting(metrics.counts.clone());
        let own = table.own();
        let state = Mutex::new(State { table, waiting: HashMap::new() });
        let (promises, freed, is_asking, is_draining, ended) = Default::default();
        Exchange {
            shared: Arc::new(Shared {
                budget,
                clock,
                promises,
                freed,
                state,
                own,
                spill,
                beside,
                is_asking,
                idle,
                metrics,
                is_draining,
                ended,
            }),
        }
    }

    /// What the chunks count in.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.shared.budget
    }

    /// Room for one sender, none so far.
    pub(super) fn promise(&self) -> Promise {
        Promise::new(Arc::clone(&self.shared.promises), Arc::clone(&self.shared.budget))
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// A sender begins an attempt, or goes on with it; the sequence that is next.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::AlreadyRead`], [`Error::Schema`],
    /// [`Error::SenderCount`], [`Error::SenderNumber`], [`Error::CleanedUp`],
    /// [`Error::Memory`], [`Error::Draining`]; [`Error::Flight`] for a message that
    /// is no schema.
    pub fn begin(
        &self,
        key: &PartitionKey,
        sender: Sender,
        schema: &Message,
    ) -> Result<u64, Error> {
        let now = self.shared.clock.elapsed();
        let mut state = self.state();
        if self.is_draining() && !state.table.has_begun(key, sender) {
            return Err(Error::Draining);
        }
        let next = self.noted(state.table.begin(key, sender, schema))?;
        self.shared.own.hear(now);
        state.table.touch_sender(key, sender.index, now);
        state.changed(key);
        Ok(next)
    }

    /// Takes a chunk: a message of a dictionary or of a record batch. Whether it is new.
    ///
    /// `said` is the CRC32C that the sender gave it; without one it is computed here.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Gap`], [`Error::Different`], [`Error::Stale`],
    /// [`Error::State`], [`Error::CleanedUp`], [`Error::NotFound`],
    /// [`Error::Memory`]; [`Error::Flight`] for what does not belong into its stream.
    pub fn push(
        &self,
        key: &PartitionKey,
        sender: Sender,
        sequence: u64,
        said: Option<u32>,
        message: Message,
    ) -> Result<bool, Error> {
        let found = crc32c_of(&message);
        let Shared { clock, metrics, .. } = &*self.shared;
        if let Some(said) = said.filter(|said| *said != found) {
            metrics.checksum_failures.inc();
            return Err(Error::Corrupt { sequence, found, said });
        }
        let bytes = (message.header.len() + message.body_len()) as u64;
        let now = clock.elapsed();
        let is_new = {
            let mut state = self.state();
            let is_new = self.noted(state.table.push(key, sender, sequence, found, message));
            // An attempt whose stream broke has ended.
            let is_new = is_new.inspect_err(|_| self.shared.ended.notify_waiters())?;
            self.shared.own.hear(now);
            state.table.touch_sender(key, sender.index, now);
            state.changed(key);
            is_new
        };
        if is_new {
            metrics.chunks.inc();
            metrics.bytes.inc_by(bytes);
        } else {
            metrics.duplicates.inc();
        }
        self.shared.note_spill();
        self.relieve();
        Ok(is_new)
    }

    /// A sender has sent all, which is so much. May be said again.
    ///
    /// # Errors
    /// [`Error::Totals`], [`Error::Stale`], [`Error::AlreadyRead`],
    /// [`Error::State`], [`Error::CleanedUp`], [`Error::NotFound`].
    pub fn commit(&self, key: &PartitionKey, sender: Sender, totals: Totals) -> Result<(), Error> {
        let now = self.shared.clock.elapsed();
        let mut state = self.state();
        let committed = self.noted(state.table.commit(key, sender, totals));
        self.shared.own.hear(now);
        // An attempt that may not commit any more has ended too.
        self.shared.ended.notify_waiters();
        committed?;
        state.table.touch(key.query(), now);
        state.changed(key);
        Ok(())
    }

    /// What is here of one stage.
    ///
    /// # Errors
    /// [`Error::NoStage`], [`Error::CleanedUp`].
    pub fn get_available_partitions(
        &self,
        query: &str,
        stage: u32,
    ) -> Result<AvailablePartitions, Error> {
        let (mut partitions, mut from) = (Vec::new(), Some(0));
        // The lock is let go between pages: senders need it.
        while let Some(first) = from {
            let (page, next) = self.state().table.page(query, stage, first, SENDERS_AT_ONCE)?;
            partitions.extend(page);
            from = next;
        }
        if partitions.is_empty() {
            return Err(Error::NoStage { query: query.to_owned(), stage });
        }
        Ok(AvailablePartitions::new(query, stage, partitions))
    }

    /// What is here of one partition.
    pub(super) fn available(&self, key: &PartitionKey) -> Result<AvailablePartition, Error> {
        self.state().table.report(key)
    }

    /// Drops all of a query and refuses its senders from now on; how many
    /// partitions there were. Readers of them end with [`Error::CleanedUp`].
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn cleanup_query_data(&self, query: &str) -> Result<usize, Error> {
        super::key::check_query(query)?;
        let dropped = {
            let mut state = self.state();
            let dropped = state.table.clean_up(query, Gone::Asked);
            state.forget(query);
            dropped
        };
        let partitions = dropped.partitions();
        // Here its memory is freed, without the lock.
        drop(dropped);
        self.shared.ended.notify_waiters();
        self.shared.note_spill();
        self.say_freed();
        Ok(partitions)
    }

    /// What is here of each query, or of one: sizes, progress and skew by stage.
    pub fn stats(&self, query: Option<&str>) -> ShuffleStats {
        let Shared { budget, clock, .. } = &*self.shared;
        let (names, left_out) = self.state().table.newest(query);
        let now = clock.elapsed();
        // The lock is let go between them.
        let queries = names.iter().filter_map(|name| self.state().table.stats(name, now));
        let queries = queries.collect();
        ShuffleStats {
            memory_bytes: budget.used(),
            memory_limit_bytes: budget.limit(),
            disk_bytes: self.spilled_bytes(),
            draining: self.is_draining(),
            queries,
            left_out,
        }
    }

    /// How busy this worker is.
    pub fn load(&self) -> WorkerLoad {
        let Shared { budget, metrics, .. } = &*self.shared;
        let counted = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        WorkerLoad {
            memory_bytes: budget.used(),
            memory_limit_bytes: budget.limit(),
            disk_bytes: self.spilled_bytes(),
            partitions: counted(&metrics.counts.partitions),
            open_attempts: counted(&metrics.counts.attempts_open),
            draining: self.is_draining(),
        }
    }

    /// Names of the queries of which something is here, in order.
    pub fn queries(&self) -> Vec<String> {
        self.state().table.queries()
    }

    /// Stage and number of each partition of a query.
    pub(super) fn partitions(&self, query: &str) -> Vec<(u32, u32)> {
        self.state().table.keys(query)
    }

    pub(crate) fn schema(&self, key: &PartitionKey) -> Result<Message, Error> {
        Ok(self.state().table.schema(key)?.0)
    }

    /// Opens a partition, once it is there.
    pub(crate) async fn read(
        &self,
        key: PartitionKey,
        options: ReadOptions,
    ) -> Result<Reader, Error> {
        let mut reader = Reader::new(self.clone(), key, options);
        let position = options.from_sequence;
        let (schema, incarnation) =
            reader.wait_for(options.wait.min(MAX_WAIT), |table, key| table.schema(key)).await?;
        if ![0, incarnation].contains(&options.incarnation) {
            return Err(Error::Anew { key: reader.key().clone() });
        }
        // From now on it reads this one only.
        reader.begin(super::wire::schema(schema, incarnation)?, incarnation);
        if options.consume {
            let freed = self.state().table.consume(reader.key(), position)?;
            drop(freed);
            self.shared.note_spill();
            self.say_freed();
        }
        Ok(reader)
    }

    /// Counts what was refused for want of memory.
    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::Memory(_))) {
            self.shared.metrics.refused.inc();
        }
        result
    }

    /// Ends when chunks were freed after this call, or after a while: the memory
    /// may be shared with others, who say nothing.
    pub(super) fn freed(&self) -> impl Future<Output = ()> + Send + use<> {
        let notified = Arc::clone(&self.shared.freed).notified_owned();
        let clock = self.shared.clock.clone();
        async move {
            tokio::select! {
                () = notified => {}
                () = clock.sleep(ROOM_AFTER) => {}
            }
        }
    }

    /// Has those look again who wait for room.
    pub(super) fn say_freed(&self) {
        self.shared.freed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between would leave counters that are off, and no lost chunk.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
