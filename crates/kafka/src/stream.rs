//! The recent rows of one topic, for as many readers as there are.

mod part;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_schema::SchemaRef;
use sheaf_flight::Budget;
use sheaf_retry::SharedClock;
use tokio::sync::Notify;

use crate::metrics::StreamMetrics;
pub use part::Part;
pub(crate) use part::{offsets, rows_from_offset};
pub use reader::{Reader, Selection, Start};

/// What happens when a stream has no room for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Kafka is not read on until there is room: nothing is lost.
    #[default]
    Block,
    /// The oldest rows go, whoever waits for them, and are counted.
    DropOldest,
}

/// How a stream is kept.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Bytes at most, of all partitions together.
    pub limit_bytes: u64,
    /// How long rows are kept after they came, or were last read.
    pub ttl: Duration,
    /// What happens when there is no room.
    pub when_full: WhenFull,
}

/// The recent rows of one topic.
///
/// 1. Rows are read in the order in which they came; those of one partition are
///    in the order of their offsets. Reading takes nothing away.
/// 2. Under [`WhenFull::Block`] rows that a reader has yet to read stay,
///    whatever their age. Rows that a reader has read and no other waits for
///    make room when it is needed; rows that nobody reads go after the time to
///    live.
/// 3. Bytes are those of buffers, each counted once, and rows that went count
///    until the last reader that sends them is done with them.
pub struct TopicStream {
    topic: Arc<str>,
    options: StreamOptions,
    clock: SharedClock,
    budget: Arc<Budget>,
    /// That of the process.
    memory: Arc<Budget>,
    metrics: StreamMetrics,
    state: Mutex<State>,
    /// Told when rows came, or the stream is over.
    came: Notify,
    /// Told when there may be room.
    room: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The number behind the last part that went.
    gone: u64,
    parts: BTreeMap<u64, Stored>,
    /// The schema that rows have which come now.
    schema: Option<(SchemaRef, u32)>,
    partitions: BTreeMap<i32, PartitionState>,
    readers: HashMap<u64, Waiting>,
    next_reader: u64,
    used_at: Duration,
    is_over: bool,
}

/// One part, and since when nobody has looked at it.
struct Stored {
    part: Arc<Part>,
    used_at: Duration,
    was_read: bool,
}

/// What is known of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// Rows that are here.
    pub rows: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The offset behind the last row that came.
    pub end: i64,
    /// The offset behind the last row that went; below it nothing can be read.
    pub gone: Option<i64>,
}

/// What a reader has yet to read: parts from `next` on of its partition.
struct Waiting {
    next: u64,
    end: Option<u64>,
    partition: Option<i32>,
}

impl Waiting {
    fn wants(&self, number: u64, part: &Part) -> bool {
        number >= self.next
            && self.end.is_none_or(|end| number < end)
            && self.partition.is_none_or(|partition| partition == part.partition)
    }
}

/// Why a part was not taken in.
#[derive(Debug)]
pub enum Refused {
    /// There is no room now.
    Full(Part),
    /// It would not fit into an empty stream.
    TooLarge {
        /// Bytes that it takes.
        bytes: u64,
        /// Bytes at most.
        limit: u64,
    },
}

/// What is to be counted once the lock is given back.
#[derive(Default)]
struct Gone {
    expired: u64,
    dropped: u64,
}

impl TopicStream {
    /// An empty stream; `memory` is counted besides its own limit.
    pub fn new(
        topic: Arc<str>,
        options: StreamOptions,
        memory: Arc<Budget>,
        metrics: StreamMetrics,
        clock: SharedClock,
    ) -> Arc<Self> {
        let budget = Budget::new(options.limit_bytes);
        let used_at = clock.elapsed();
        let state = Mutex::new(State { used_at, ..State::default() });
        let (came, room) = (Notify::new(), Notify::new());
        Arc::new(TopicStream { topic, options, clock, budget, memory, metrics, state, came, room })
    }

    /// Whose stream it is.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Bytes of the rows that are here, or on their way to readers.
    pub fn used_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Bytes at most.
    pub fn limit_bytes(&self) -> u64 {
        self.options.limit_bytes
    }

    /// Counters of it.
    pub(crate) fn metrics(&self) -> &StreamMetrics {
        &self.metrics
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code below panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema of the rows that come now, and its version; `None` before the
    /// first ones.
    pub fn schema(&self) -> Option<(SchemaRef, u32)> {
        self.state().schema.clone()
    }

    /// Says what columns the first rows will have.
    pub(crate) fn begin(&self, schema: &SchemaRef, version: u32) {
        let mut state = self.state();
        state.schema.get_or_insert_with(|| (Arc::clone(schema), version));
    }

    /// Partitions that rows came of.
    pub fn partitions(&self) -> BTreeMap<i32, PartitionState> {
        self.state().partitions.clone()
    }

    /// Takes rows in; the partition's earlier ones are in.
    ///
    /// # Errors
    /// Where there is no room for them: they come back.
    pub fn try_append(&self, mut part: Part) -> Result<(), Refused> {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let mut gone = Gone::default();
        let result = loop {
            match self.count(&mut part) {
                Ok(()) => break Ok(()),
                // What lacks room is this stream: others cannot make it give up more.
                Err(true) if state.make_room(self, now, &mut gone) => {}
                Err(_) => break Err(()),
            }
        };
        let result = match result {
            Ok(()) => {
                state.insert(part, now);
                Ok(())
            }
            Err(()) => {
                let (bytes, limit) = (part.size_bytes(), self.options.limit_bytes);
                let limit = limit.min(self.memory.limit());
                if bytes > limit {
                    Err(Refused::TooLarge { bytes, limit })
                } else {
                    Err(Refused::Full(part))
                }
            }
        };
        self.show(&state);
        drop(state);
        self.count_gone(&gone);
        if result.is_ok() {
            self.came.notify_waiters();
        }
        result
    }

    /// Counts the memory of a part in both budgets, or in none; where it does not
    /// fit, whether it is the limit of this stream that it exceeds.
    fn count(&self, part: &mut Part) -> Result<(), bool> {
        part.hold(&self.budget).map_err(|_| true)?;
        part.hold(&self.memory).map_err(|_| {
            part.release();
            false
        })
    }

    /// As [`TopicStream::try_append`], once there is room; asked once a second at
    /// least whether it is still wanted.
    ///
    /// # Errors
    /// [`Refused::TooLarge`]; [`Refused::Full`] where the stream is over, or the
    /// part is not wanted any more.
    pub async fn append(
        &self,
        mut part: Part,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            part = match self.try_append(part) {
                Err(Refused::Full(part)) if is_wanted() && !self.state().is_over => part,
                done => return done,
            };
            // Readers tell when they are done; age and the memory of others do not.
            let wait = self.until_next_expiry().min(Duration::from_secs(1));
            tokio::select! {
                () = room => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    fn until_next_expiry(&self) -> Duration {
        let now = self.clock.elapsed();
        let state = self.state();
        let oldest = state.parts.values().map(|stored| stored.used_at).min();
        let at = oldest.map_or(now, |used_at| used_at) + self.options.ttl;
        at.saturating_sub(now).max(Duration::from_millis(1))
    }

    /// Gives up rows that nobody looked at for the time to live.
    pub fn expire(&self) {
        let now = self.clock.elapsed();
        let mut gone = Gone::default();
        let mut state = self.state();
        state.expire(self, now, &mut gone);
        self.show(&state);
        drop(state);
        self.count_gone(&gone);
        if gone.expired > 0 {
            self.room.notify_waiters();
        }
    }

    /// Rows of a partition are somewhere else too, up to the offset `end` without
    /// it: they make room when it is needed, whether anybody read them or not.
    pub fn kept_elsewhere(&self, partition: i32, end: i64) {
        let mut state = self.state();
        let parts = state.parts.values_mut().filter(|one| one.part.partition == partition);
        for stored in parts.filter(|stored| stored.part.end <= end) {
            stored.was_read = true;
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// How long nobody has read it or added to it.
    pub fn idle(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.state().used_at)
    }

    /// Ends it: readers come to an end, and nothing waits for room.
    pub fn close(&self) {
        self.state().is_over = true;
        self.came.notify_waiters();
        self.room.notify_waiters();
    }

    fn count_gone(&self, gone: &Gone) {
        self.metrics.expired.inc_by(gone.expired);
        self.metrics.dropped.inc_by(gone.dropped);
    }

    fn show(&self, state: &State) {
        let used = self.budget.used();
        self.metrics.show(used, self.options.limit_bytes, state.readers.len());
    }
}

impl State {
    fn insert(&mut self, part: Part, now: Duration) {
        let known = self.partitions.entry(part.partition).or_default();
        known.rows += part.rows.num_rows() as u64;
        known.bytes += part.size_bytes();
        known.end = part.end;
        if self.schema.as_ref().is_none_or(|(_, version)| *version < part.schema_version) {
            self.schema = Some((part.rows.schema(), part.schema_version));
        }
        let stored = Stored { part: Arc::new(part), used_at: now, was_read: false };
        self.parts.insert(self.next, stored);
        self.next += 1;
        self.used_at = now;
    }

    /// Whether a reader has yet to read it.
    fn is_awaited(&self, number: u64, part: &Part) -> bool {
        self.readers.values().any(|reader| reader.wants(number, part))
    }

    fn remove(&mut self, number: u64) -> u64 {
        let Some(Stored { part, .. }) = self.parts.remove(&number) else { return 0 };
        self.gone = self.gone.max(number + 1);
        let rows = part.rows.num_rows() as u64;
        if let Some(known) = self.partitions.get_mut(&part.partition) {
            known.rows = known.rows.saturating_sub(rows);
            known.bytes = known.bytes.saturating_sub(part.size_bytes());
            known.gone = known.gone.max(Some(part.end));
        }
        rows
    }

    fn expire(&mut self, stream: &TopicStream, now: Duration, gone: &mut Gone) {
        let ttl = stream.options.ttl;
        let blocks = stream.options.when_full == WhenFull::Block;
        let old = self.parts.iter().filter(|(number, stored)| {
            now.saturating_sub(stored.used_at) >= ttl
                && !(blocks && self.is_awaited(**number, &stored.part))
        });
        let old: Vec<u64> = old.map(|(number, _)| *number).collect();
        for number in old {
            gone.expired += self.remove(number);
        }
    }

    /// The first part that was read and that nobody waits for, and none before it of
    /// its partition is left: what is left of one has no holes.
    fn first_read(&self) -> Option<u64> {
        let mut kept = BTreeSet::new();
        let free = self.parts.iter().find(|(number, stored)| {
            let partition = stored.part.partition;
            if kept.contains(&partition) {
                return false;
            }
            let is_free = stored.was_read && !self.is_awaited(**number, &stored.part);
            if !is_free {
                kept.insert(partition);
            }
            is_free
        });
        free.map(|(number, _)| *number)
    }

    /// Has something go that may; whether anything did.
    fn make_room(&mut self, stream: &TopicStream, now: Duration, gone: &mut Gone) -> bool {
        let before = self.parts.len();
        self.expire(stream, now, gone);
        if self.parts.len() < before {
            return true;
        }
        let next = match stream.options.when_full {
            WhenFull::DropOldest => self.parts.keys().next().copied(),
            WhenFull::Block => self.first_read(),
        };
        let Some(number) = next else { return false };
        let is_lost = self
            .parts
            .get(&number)
            .is_some_and(|stored| !stored.was_read || self.is_awaited(number, &stored.part));
        let rows = self.remove(number);
        // What everybody has read is not lost.
        if is_lost {
            gone.dropped += rows;
        }
        true
    }
}
