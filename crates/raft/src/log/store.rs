//! The log as the engine uses it.

use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::{Stream, StreamExt as _, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{AsyncRuntime, LogState, OptionalSend, RaftLogReader};
use prost::Message as _;
use sheaf_proto::raft::v1 as proto;
use sheaf_proto::raft::v1::log_record::Record;
use tokio::sync::{Semaphore, oneshot};

use super::directory::Directory;
use super::frame::MAX_BODY_BYTES;
use super::read::Plan;
use super::recovery::recover;
use super::state::{Done, Place, State};
use super::writer::Shared;
use super::{Error, Identity, Options};
use crate::blocking;
use crate::stored::{self, Entry};
use crate::types::Types;

/// The log of a node, cheap to clone; it is closed when the last clone is dropped.
pub struct LogStore<R = openraft_rt_tokio::TokioRuntime> {
    log: Arc<Log>,
    runtime: PhantomData<fn() -> R>,
}

struct Log {
    shared: Arc<Shared>,
    /// Bytes that may still wait to be written.
    queue: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a log holds, to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Entries that are there.
    pub entries: u64,
    /// Files.
    pub segments: usize,
    /// Bytes in files.
    pub disk_bytes: u64,
    /// Bytes of entries in memory.
    pub cached_bytes: u64,
    /// The index up to which entries were purged.
    pub purged: Option<u64>,
    /// The index of the last entry.
    pub last: Option<u64>,
}

impl<R> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        LogStore { log: self.log.clone(), runtime: PhantomData }
    }
}

impl<R> Debug for LogStore<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogStore").field(&self.log.shared.directory.path).finish()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the log panicked");
        }
        self.shared.finish();
    }
}

impl<R> LogStore<R> {
    /// Opens the log in `path`, which is made where it is not there. Reads all of
    /// it, and waits for the disk.
    ///
    /// # Errors
    /// `Locked`, `Newer`, `Foreign`, `Damaged`, and those of the system.
    pub fn open(path: &Path, identity: &Identity, options: Options) -> Result<Self, Error> {
        let directory = Directory::lock(path)?;
        let state = recover(&directory, identity)?;
        let is_new = state.segments.is_empty();
        let shared = Arc::new(Shared::new(directory, options, state));
        if is_new {
            {
                let mut state = shared.state();
                let cut = proto::Truncation { last: None };
                state.write(Record::Truncation(cut), u64::MAX);
                state.pending.is_sync = true;
            }
            shared.write_pending();
            drop(shared.writable()?);
        }
        if shared.state().incarnation == 0 {
            let incarnation = shared.options.incarnation().unwrap_or_else(new_incarnation);
            shared.directory.claim(identity, incarnation)?;
            shared.state().incarnation = incarnation;
        }
        let thread = match shared.options.has_thread() {
            false => None,
            true => {
                let shared = shared.clone();
                let thread = std::thread::Builder::new().name("raft-log".to_owned());
                let run = thread.spawn(move || shared.run());
                Some(run.map_err(Error::io("start the thread of", path))?)
            }
        };
        let queue = Arc::new(Semaphore::new(shared.options.queue_bytes as usize));
        let log = Log { shared, queue, thread: Mutex::new(thread) };
        Ok(LogStore { log: Arc::new(log), runtime: PhantomData })
    }

    /// Tells this log from every other: made with it, or by the first version that had it.
    pub fn incarnation(&self) -> u64 {
        self.state().incarnation
    }

    /// Why nothing is written any more, where that is so.
    pub fn failure(&self) -> Option<Error> {
        self.state().failed.clone()
    }

    /// What it holds.
    pub fn status(&self) -> Status {
        let state = self.state();
        let (first, behind) = state.range();
        let oldest = state.segments.keys().next().copied();
        Status {
            entries: behind - first,
            segments: state.segments.len(),
            disk_bytes: oldest.map_or(0, |oldest| state.written - oldest),
            cached_bytes: state.cached_bytes(),
            purged: state.purged.map(|purged| purged.index),
            last: state.last.map(|last| last.index),
        }
    }

    /// Whether it holds nothing at all, not even a vote: it was made just now, or nobody has
    /// spoken to this node since.
    pub(crate) fn is_new(&self) -> bool {
        let state = self.state();
        state.vote.is_none() && state.last.is_none() && state.purged.is_none()
    }

    /// The log, to all who write and read it.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn shared(&self) -> &Shared {
        &self.log.shared
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.log.shared.state()
    }

    /// Writes a record, has `change` do to the state what it does, and waits
    /// until it is on disk.
    async fn write(
        &self,
        record: Record,
        change: impl FnOnce(&mut State),
    ) -> Result<(), io::Error> {
        let (told, on_disk) = oneshot::channel();
        let shared = &self.log.shared;
        {
            let mut state = shared.writable()?;
            state.write(record, shared.options.segment_bytes);
            change(&mut state);
            state.pending.is_sync = true;
            state.pending.done.push(Box::new(move |result| {
                // Who asked may be gone.
                drop(told.send(result));
            }));
        }
        shared.flush();
        on_disk.await.map_err(io::Error::other)?.map_err(io::Error::from)
    }

    /// Puts entries behind the others; a hole or a giant is refused before any
    /// is written.
    fn append_all(&self, entries: Vec<Entry>, done: Done) -> Result<(), Error> {
        let shared = &self.log.shared;
        let options = &shared.options;
        let is_early = options.acknowledges_early();
        {
            let mut state = shared.writable()?;
            check(&state, &entries)?;
            for entry in entries {
                let record = Record::Entry(stored::to_entry(&entry));
                let (offset, bytes) = state.write(record, options.segment_bytes);
                let place = Place { term: *entry.log_id.leader_id, offset, bytes };
                state.append(entry.log_id, place)?;
                state.keep(entry, options.cache_bytes);
            }
            state.pending.is_sync = true;
            if !is_early {
                state.pending.done.push(done);
                drop(state);
                shared.flush();
                return Ok(());
            }
        }
        done(Ok(()));
        Ok(())
    }

    async fn read(&self, plan: Plan) -> Result<Vec<Entry>, io::Error> {
        if plan.is_on_disk() {
            return blocking::run(move || plan.read()).await;
        }
        Ok(plan.read()?)
    }
}

/// No two logs have the same.
fn new_incarnation() -> u64 {
    // The keys of the hasher are random.
    RandomState::new().hash_one("a log").max(1)
}

fn check(state: &State, entries: &[Entry]) -> Result<(), Error> {
    let mut last = state.last.map(|last| last.index);
    for entry in entries {
        let index = entry.log_id.index;
        if let Some(last) = last
            && index != last + 1
        {
            return Err(Error::Hole { last, actual: index });
        }
        last = Some(index);
        // What a record adds to an entry is less.
        let actual = stored::to_entry(entry).encoded_len() as u64;
        let limit = MAX_BODY_BYTES as u64 - 64;
        if actual > limit {
            return Err(Error::TooLarge { index, actual, limit });
        }
    }
    Ok(())
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<R: AsyncRuntime> RaftLogReader<Types<R>> for LogStore<R> {
    async fn try_get_log_entries<B>(
        &mut self,
        range: B,
    ) -> Result<Vec<EntryOf<Types<R>>>, io::Error>
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let plan = Plan::new(&self.state(), start, end, u64::MAX);
        self.read(plan).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EntryOf<Types<R>>>, io::Error> {
        let limit = self.log.shared.options.read_bytes;
        let plan = Plan::new(&self.state(), start, end, limit);
        self.read(plan).await
    }

    async fn entries_stream<B>(
        &mut self,
        range: B,
    ) -> impl Stream<Item = Result<EntryOf<Types<R>>, io::Error>> + OptionalSend
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let begin = (self.clone(), start, true);
        let pieces = stream::try_unfold(begin, move |(mut log, start, is_first)| async move {
            let entries = log.limited_get_log_entries(start, end).await?;
            let Some((first, last)) = entries.first().zip(entries.last()) else { return Ok(None) };
            let (first, next) = (first.log_id.index, last.log_id.index + 1);
            if !is_first && first != start {
                let problem =
                    format!("entries {start} to {first} were purged while they were read");
                return Err(io::Error::other(problem));
            }
            let piece = stream::iter(entries.into_iter().map(Ok::<_, io::Error>));
            Ok::<_, io::Error>(Some((piece, (log, next, false))))
        });
        Box::pin(pieces.flat_map(|piece| match piece {
            Ok(entries) => entries.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        }))
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types<R>>>, io::Error> {
        Ok(self.state().vote)
    }
}

impl<R: AsyncRuntime> RaftLogStorage<Types<R>> for LogStore<R> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<R>>, io::Error> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types<R>>) -> Result<(), io::Error> {
        let vote = *vote;
        let record = Record::Vote(stored::to_vote(&vote));
        self.write(record, move |state| state.vote = Some(vote)).await
    }

    /// Written, and on disk with the next record that waits for that: where it is
    /// lost, less is applied at a restart until the leader says again how much is
    /// committed.
    async fn save_committed(
        &mut self,
        committed: Option<LogIdOf<Types<R>>>,
    ) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let shared = &self.log.shared;
        {
            let mut state = shared.writable()?;
            if state.committed >= Some(committed) {
                return Ok(());
            }
            let record = Record::Committed(stored::position(&committed));
            state.write(record, shared.options.segment_bytes);
            state.committed = Some(committed);
        }
        shared.flush();
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Types<R>>>, io::Error> {
        Ok(self.state().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<Types<R>>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Types<R>>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes: u64 = entries.iter().map(stored::size).sum();
        let limit = self.log.shared.options.queue_bytes;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(limit);
        let room = self.log.queue.clone().acquire_many_owned(bytes).await;
        let room = room.map_err(io::Error::other)?;
        let done: Done = Box::new(move |result| {
            drop(room);
            callback.io_completed(result.map_err(io::Error::from));
        });
        Ok(self.append_all(entries, done)?)
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types<R>>>) -> Result<(), io::Error> {
        let record =
            Record::Truncation(proto::Truncation { last: last.as_ref().map(stored::position) });
        self.write(record, move |state| state.truncate(last)).await
    }

    async fn purge(&mut self, upto: LogIdOf<Types<R>>) -> Result<(), io::Error> {
        let record = Record::Purged(stored::position(&upto));
        self.write(record, move |state| {
            state.purge(upto);
            state.drop_obsolete();
        })
        .await
    }
}
