//! Which payloads are registered, so that none of them expires only because
//! the coordinator that knows them is not there, or came back empty.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::RegistrationRecord;
use tokio::sync::OwnedMutexGuard;

use super::entry::Noted;
use super::{Inner, Store};
use crate::disk::{Directory, Disk, Journal, Recovered, journal};
use crate::error::Error;
use crate::retention::{Asked, Mark, Place};

/// What a crash of the machine, not of the process, may leave unwritten: the
/// coordinator, or the next comparison with it, then says it again.
const SYNC_AFTER: Duration = Duration::from_millis(200);

/// After a write that failed: the disk may be full.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// Payloads looked at without letting others have the index.
const PART: usize = 4_096;

/// The marks of a store.
pub(super) struct Marks {
    keeper: Keeper,
    /// How many payloads are marked.
    marked: AtomicU64,
}

enum Keeper {
    /// Nothing outlives the process.
    Memory(Mutex<HashMap<BatchId, Mark>>),
    File {
        journal: Arc<tokio::sync::Mutex<Journal>>,
        /// To be written by whoever has the journal next: the last word on each
        /// payload, no mark where its work is over. Never more than one for each.
        waiting: Mutex<HashMap<BatchId, Option<Mark>>>,
        /// A task waits for the journal to write them.
        is_scheduled: AtomicBool,
        /// Somebody will sync it.
        is_syncing: AtomicBool,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Marks {
    pub(super) fn in_memory() -> Self {
        Marks { keeper: Keeper::Memory(Mutex::default()), marked: AtomicU64::new(0) }
    }

    /// Reads the journal of a directory, and tells each payload its mark.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        directory: &Directory,
        found: &mut [Recovered],
    ) -> Result<Self, Error> {
        let there: HashSet<&str> = found.iter().map(|payload| payload.id.as_str()).collect();
        let path = directory.registered();
        let (journal, known) = Journal::open(disk, path, |id| there.contains(id))?;
        for payload in found {
            payload.mark = known.get(payload.id.as_str()).copied();
        }
        let keeper = Keeper::File {
            journal: Arc::new(tokio::sync::Mutex::new(journal)),
            waiting: Mutex::default(),
            is_scheduled: AtomicBool::new(false),
            is_syncing: AtomicBool::new(false),
        };
        Ok(Marks { keeper, marked: AtomicU64::new(known.len() as u64) })
    }
}

impl Store {
    /// Says that these payloads were registered: each is kept until its owner
    /// says that the work is over, also over restarts, and by an owner that
    /// does not know it. Payloads that are not there are passed over.
    pub async fn mark(&self, marks: Vec<(BatchId, Mark)>) {
        self.inner.mark(marks).await;
    }

    /// Whether the payload is there and not marked as registered.
    pub fn is_unmarked(&self, id: &BatchId) -> bool {
        self.inner.index.get(id).is_some_and(|entry| entry.mark().is_none())
    }

    /// Where the registration of a payload stands that is marked as one whose
    /// work waits for others.
    pub fn marked_waiting(&self, id: &BatchId) -> Option<Place> {
        let mark = self.inner.index.get(id).and_then(|entry| entry.mark())?;
        mark.waits.then_some(mark.place)
    }

    /// Payloads whose mark's place does not have this property, at most `limit`,
    /// by name from after `after`.
    pub fn marked_unless(
        &self,
        is_so: impl Fn(Place) -> bool,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Vec<BatchId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let (mut found, mut after) = (Vec::new(), after.cloned());
        loop {
            // A part at a time: others wait for the index meanwhile.
            let state = self.inner.index.state();
            let from = after.as_ref().map_or(Unbounded, Excluded);
            let part = state.entries.range::<BatchId, _>((from, Unbounded)).take(PART);
            let (mut seen, mut last) = (0, None);
            for (id, entry) in part {
                (seen, last) = (seen + 1, Some(id));
                if entry.mark().is_some_and(|mark| !is_so(mark.place)) {
                    found.push(id.clone());
                }
                if found.len() == limit {
                    return found;
                }
            }
            after = match last {
                Some(last) if seen == PART => Some(last.clone()),
                _ => return found,
            };
        }
    }

    /// The journal of the marks, for a copy, and how many bytes of it to copy;
    /// none where nothing outlives the process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn journal(&self) -> Result<Option<(std::fs::File, u64)>, Error> {
        let Keeper::File { journal, .. } = &self.inner.marks.keeper else { return Ok(None) };
        self.inner.write_waiting().await;
        let journal = Arc::clone(journal).lock_owned().await;
        journal.as_it_is().map(Some)
    }

    /// The marks of these payloads, in no order; those that have none are left out.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be read.
    pub async fn marks(&self, ids: &[BatchId]) -> Result<Vec<(BatchId, Mark)>, Error> {
        let marks = &self.inner.marks;
        let Keeper::File { journal, .. } = &marks.keeper else {
            let Keeper::Memory(known) = &marks.keeper else { return Ok(Vec::new()) };
            let known = lock(known);
            let found = ids.iter().filter_map(|id| Some((id.clone(), known.get(id)?.clone())));
            return Ok(found.collect());
        };
        let ids = ids.to_vec();
        self.inner.write_waiting().await;
        let journal = Arc::clone(journal).lock_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            journal.read(&ids.iter().map(BatchId::as_str).collect())
        });
        let records = read.await.map_err(|_| Error::TaskLost)??;
        let mark = |record: RegistrationRecord| {
            Some((BatchId::try_new(&record.id).ok()?, journal::mark(record)))
        };
        Ok(records.into_iter().filter_map(mark).collect())
    }
}

impl Inner {
    /// See [`Store::mark`]; goes on where the caller does not.
    pub(super) async fn mark(self: &Arc<Self>, marks: Vec<(BatchId, Mark)>) {
        let marking = Arc::clone(self);
        let marked = self.tasks.spawn(async move {
            for (id, mark) in marks {
                marking.note(&id, Some(mark));
            }
            marking.write_waiting().await;
        });
        if marked.await.is_err() {
            tracing::error!("marking payloads as registered panicked");
        }
    }

    /// Nobody wants these any more.
    pub(super) async fn unmark(self: &Arc<Self>, ids: &[BatchId]) {
        ids.iter().for_each(|id| self.note(id, None));
        self.write_waiting().await;
    }

    /// Work on these is over, or forgotten, says their owner: where they are not
    /// marked anew since it was asked, they are marked no longer.
    pub(super) async fn unmark_asked<'a>(
        self: &Arc<Self>,
        asked: impl Iterator<Item = &'a Asked> + Send,
    ) {
        for asked in asked.filter(|asked| asked.place.is_some()) {
            let mark = self.index.get(&asked.id).and_then(|entry| entry.mark());
            if mark.map(|mark| mark.place) == asked.place {
                self.note(&asked.id, None);
            }
        }
        self.write_waiting().await;
    }

    /// As [`Inner::unmark`], in the background: however many ask while the disk
    /// stands still, one task waits for it.
    pub(super) fn unmark_later(self: &Arc<Self>, ids: &[BatchId]) {
        ids.iter().for_each(|id| self.note(id, None));
        let Keeper::File { is_scheduled, waiting, .. } = &self.marks.keeper else { return };
        if lock(waiting).is_empty() || is_scheduled.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::clone(self);
        self.tasks.spawn(async move { inner.write().await });
    }

    /// Sets or takes away one mark.
    fn note(&self, id: &BatchId, mark: Option<Mark>) {
        let Some(entry) = self.index.get(id) else { return };
        if mark.is_some() {
            // A use: whoever asked the owner before does not remove it now. And
            // an early look, should the end of the work have come before the mark.
            let now = self.now();
            if !entry.touch(now) {
                return;
            }
            let soon = now.plus(self.options.ttl.min(super::expire::LIVE));
            if entry.due_at.load(Ordering::Relaxed) > soon.as_micros() {
                self.index.schedule(&entry, soon);
            }
        }
        let noted = mark.as_ref().map(|mark| Noted { place: mark.place, waits: mark.waits });
        // Under the lock, so that the journal has the last word, too.
        let before = match &self.marks.keeper {
            Keeper::Memory(known) => {
                let mut known = lock(known);
                match mark {
                    Some(mark) => known.insert(id.clone(), mark),
                    None => known.remove(id),
                };
                entry.set_mark(noted)
            }
            Keeper::File { waiting, .. } => {
                let mut waiting = lock(waiting);
                let before = entry.set_mark(noted);
                if before.is_some() || mark.is_some() {
                    waiting.insert(id.clone(), mark);
                }
                before
            }
        };
        match (before, noted) {
            (None, Some(_)) => {
                self.marks.marked.fetch_add(1, Ordering::Relaxed);
            }
            (Some(_), None) => {
                self.marks.marked.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Writes what waits, with what others have brought meanwhile.
    pub(super) async fn write_waiting(self: &Arc<Self>) {
        if let Keeper::File { waiting, .. } = &self.marks.keeper
            && !lock(waiting).is_empty()
        {
            let inner = Arc::clone(self);
            // By itself: whoever goes away takes nothing of what others brought.
            if self.tasks.spawn(async move { inner.write().await }).await.is_err() {
                tracing::error!("storing marks of registered payloads panicked");
            }
        }
    }

    async fn write(self: &Arc<Self>) {
        let Keeper::File { journal, waiting, is_scheduled, is_syncing } = &self.marks.keeper else {
            return;
        };
        let mut journal = Arc::clone(journal).lock_owned().await;
        // Before the records are taken: what comes later has its own task.
        is_scheduled.store(false, Ordering::Relaxed);
        let taken = std::mem::take(&mut *lock(waiting));
        if taken.is_empty() {
            return;
        }
        let record = |(id, mark): (&BatchId, &Option<Mark>)| match mark {
            Some(mark) => journal::registered(id.as_str(), mark.clone()),
            None => journal::over(id.as_str()),
        };
        let records: Vec<RegistrationRecord> = taken.iter().map(record).collect();
        let (index, live) = (Arc::clone(&self.index), self.marks.marked.load(Ordering::Relaxed));
        let write = tokio::task::spawn_blocking(move || {
            journal.append(&records)?;
            if journal.is_long(live)
                && let Err(error) = journal.compact(|id| {
                    let entry = BatchId::try_new(id).ok().and_then(|id| index.get(&id));
                    entry.is_some_and(|entry| entry.mark().is_some())
                })
            {
                tracing::warn!(%error, "the journal of registrations stays long");
            }
            Ok::<(), Error>(())
        });
        match write.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "marks of registered payloads are not stored yet");
                self.write_again(taken);
                return;
            }
            Err(_) => tracing::error!("storing marks of registered payloads panicked"),
        }
        if !is_syncing.swap(true, Ordering::Relaxed) {
            let inner = Arc::clone(self);
            self.tasks.spawn(async move {
                let sleep = inner.clock.sleep(SYNC_AFTER);
                inner.closing.run_until_cancelled(sleep).await;
                inner.sync_marks().await;
            });
        }
    }

    /// What could not be written waits on, unless there is a later word, and is
    /// tried again.
    fn write_again(self: &Arc<Self>, taken: HashMap<BatchId, Option<Mark>>) {
        let Keeper::File { waiting, is_scheduled, .. } = &self.marks.keeper else { return };
        {
            let mut waiting = lock(waiting);
            for (id, mark) in taken {
                waiting.entry(id).or_insert(mark);
            }
        }
        if !is_scheduled.swap(true, Ordering::Relaxed) {
            let inner = Arc::clone(self);
            self.tasks.spawn(async move {
                let sleep = inner.clock.sleep(WRITE_AGAIN);
                if inner.closing.run_until_cancelled(sleep).await.is_some() {
                    inner.write().await;
                }
            });
        }
    }

    /// Makes the marks durable.
    pub(super) async fn sync_marks(&self) {
        let Keeper::File { journal, is_syncing, .. } = &self.marks.keeper else { return };
        is_syncing.store(false, Ordering::Relaxed);
        let mut journal: OwnedMutexGuard<Journal> = Arc::clone(journal).lock_owned().await;
        match tokio::task::spawn_blocking(move || journal.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "marks of registered payloads are not synced"),
            Err(_) => tracing::error!("syncing marks of registered payloads panicked"),
        }
    }
}
