//! The receiving side of a process: the table, and readers that wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_flight::{Budget, Message};
use sheaf_retry::SharedClock;
use tokio::sync::Notify;

use super::chunk::crc32c_of;
use super::error::Error;
use super::key::{PartitionKey, Sender, Totals};
use super::table::{AvailablePartitions, Mode, Step, Table};

/// Longest time that a reader waits in one call.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// How often who waits for room looks by himself.
const ROOM_AFTER: Duration = Duration::from_millis(50);

/// How long a page of a reader that consumes waits for more.
const PAGE_IDLE: Duration = Duration::from_millis(5);

/// Waiting readers above which those that left are looked for.
const MANY_WAITING: usize = 1_024;

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
/// for memory with bytes in hand: where there is none, a put is refused with
/// `memory_full` and comes again, and a conversation gets no credit, so that nobody
/// stands in the way of the reader who would free some.
#[derive(Clone, Debug)]
pub struct Exchange {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: Arc<Budget>,
    clock: SharedClock,
    /// Woken where chunks were freed.
    freed: Arc<Notify>,
    state: Mutex<State>,
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
}

impl Exchange {
    /// Nothing received yet; what comes counts in `budget`.
    pub fn new(budget: Arc<Budget>, clock: SharedClock) -> Self {
        let table = Table::new(Arc::clone(&budget), clock.now().as_micros().max(1));
        let state = Mutex::new(State { table, waiting: HashMap::new() });
        Exchange { shared: Arc::new(Shared { budget, clock, freed: Arc::default(), state }) }
    }

    /// What the chunks count in.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.shared.budget
    }

    /// A sender begins an attempt, or goes on with it; the sequence that is next.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::AlreadyRead`], [`Error::Schema`],
    /// [`Error::SenderCount`], [`Error::SenderNumber`], [`Error::CleanedUp`],
    /// [`Error::Memory`]; [`Error::Flight`] for a message that is no schema.
    pub fn begin(
        &self,
        key: &PartitionKey,
        sender: Sender,
        schema: &Message,
    ) -> Result<u64, Error> {
        let mut state = self.state();
        let next = state.table.begin(key, sender, schema)?;
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
        if let Some(said) = said.filter(|said| *said != found) {
            return Err(Error::Corrupt { sequence, found, said });
        }
        let mut state = self.state();
        let is_new = state.table.push(key, sender, sequence, found, message)?;
        state.changed(key);
        Ok(is_new)
    }

    /// A sender has sent all, which is so much. May be said again.
    ///
    /// # Errors
    /// [`Error::Totals`], [`Error::Stale`], [`Error::AlreadyRead`],
    /// [`Error::State`], [`Error::CleanedUp`], [`Error::NotFound`].
    pub fn commit(&self, key: &PartitionKey, sender: Sender, totals: Totals) -> Result<(), Error> {
        let mut state = self.state();
        state.table.commit(key, sender, totals)?;
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
        self.state().table.available(query, stage)
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
            let dropped = state.table.clean_up(query);
            state.waiting.retain(|key, notify| {
                let is_other = key.query() != query;
                if !is_other {
                    notify.notify_waiters();
                }
                is_other
            });
            dropped
        };
        // Here its memory is freed, without the lock.
        let partitions = dropped.partitions();
        drop(dropped);
        self.say_freed();
        Ok(partitions)
    }

    /// Names of the queries of which something is here, in order.
    pub fn queries(&self) -> Vec<String> {
        self.state().table.queries()
    }

    /// Stage and number of each partition of a query.
    pub(super) fn partitions(&self, query: &str) -> Vec<(u32, u32)> {
        self.state().table.keys(query)
    }

    pub(super) fn schema(&self, key: &PartitionKey) -> Result<Message, Error> {
        Ok(self.state().table.schema(key)?.0)
    }

    /// Opens a partition, once it is there.
    pub(super) async fn read(
        &self,
        key: PartitionKey,
        options: ReadOptions,
    ) -> Result<Reader, Error> {
        let wait = options.wait.min(MAX_WAIT);
        let (exchange, position, bytes) = (self.clone(), options.from_sequence, 0);
        let schema = Message::default();
        let incarnation = 0;
        let mut reader =
            Reader { exchange, key, options, wait, schema, incarnation, position, bytes };
        let (schema, incarnation) = reader.wait_for(wait, |table, key| table.schema(key)).await?;
        if ![0, incarnation].contains(&options.incarnation) {
            return Err(Error::Anew { key: reader.key });
        }
        reader.schema = super::wire::schema(schema, incarnation)?;
        // From now on it reads this one only.
        reader.incarnation = incarnation;
        if options.consume {
            let freed = self.state().table.consume(&reader.key, position)?;
            drop(freed);
            self.say_freed();
        }
        Ok(reader)
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

/// Reads one partition from a position on.
#[derive(Debug)]
pub(super) struct Reader {
    exchange: Exchange,
    key: PartitionKey,
    options: ReadOptions,
    wait: Duration,
    schema: Message,
    incarnation: u64,
    position: u64,
    bytes: u64,
}

/// What a reader gives.
#[derive(Debug)]
pub(super) enum Item {
    Chunk {
        sequence: u64,
        sender: u32,
        crc: u32,
        message: Message,
    },
    /// As many bytes as were wanted were given, or what was given is to be
    /// consumed before more can come: the next position.
    More(u64),
    End(Totals),
}

impl Reader {
    /// The schema message of the partition.
    pub(super) fn schema(&self) -> Message {
        self.schema.clone()
    }

    /// The next chunk, once it is there.
    pub(super) async fn next(&mut self) -> Result<Item, Error> {
        let ReadOptions { max_bytes, pipelined, consume, .. } = self.options;
        let position = self.position;
        if max_bytes > 0 && self.bytes >= max_bytes {
            return Ok(Item::More(position));
        }
        // What was given holds memory until the reader comes again; what it waits
        // for may wait for that memory.
        let holds_memory = consume && self.bytes > 0;
        let wait = if holds_memory { self.wait.min(PAGE_IDLE) } else { self.wait };
        let mode = if pipelined { Mode::Pipelined } else { Mode::Complete };
        let step = self
            .wait_for(wait, |table, key| {
                if table.schema(key)?.1 != self.incarnation {
                    return Err(Error::Anew { key: key.clone() });
                }
                table.next(key, position, mode)
            })
            .await?;
        match step {
            Step::End(totals) => Ok(Item::End(totals)),
            Step::Wait(_) if holds_memory => Ok(Item::More(position)),
            Step::Wait(missing) => Err(self.stalled(missing)),
            Step::Chunk(chunk, sender) => {
                let message = chunk.message();
                self.position += 1;
                self.bytes += message.len() as u64;
                let (sequence, crc) = (position, chunk.crc);
                Ok(Item::Chunk { sequence, sender, crc, message })
            }
        }
    }

    /// Looks until there is something, or there was none for as long as the
    /// caller waits.
    async fn wait_for<T: Awaited>(
        &self,
        wait: Duration,
        look: impl Fn(&mut Table, &PartitionKey) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let clock = &self.exchange.shared.clock;
        let end = clock.elapsed() + wait;
        loop {
            let (notified, found) = {
                let mut state = self.exchange.state();
                let found = look(&mut state.table, &self.key);
                let waits = match &found {
                    Ok(found) => !found.is_there(),
                    Err(error) => matches!(error, Error::NotFound { .. } | Error::NotReady { .. }),
                };
                if !waits {
                    return found;
                }
                if state.waiting.len() > MANY_WAITING {
                    state.waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
                }
                let notify = state.waiting.entry(self.key.clone()).or_default();
                // It is woken by what changes after the lock is let go.
                (Arc::clone(notify).notified_owned(), found)
            };
            let left = end.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return found;
            }
            tokio::select! {
                () = notified => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    fn stalled(&self, missing: u32) -> Error {
        let waited_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        Error::Stalled { key: self.key.clone(), waited_ms, missing }
    }
}

/// What can be there or not yet.
trait Awaited {
    fn is_there(&self) -> bool;
}

impl Awaited for (Message, u64) {
    fn is_there(&self) -> bool {
        true
    }
}

impl Awaited for Step {
    fn is_there(&self) -> bool {
        !matches!(self, Step::Wait(_))
    }
}

#[cfg(test)]
mod tests;
