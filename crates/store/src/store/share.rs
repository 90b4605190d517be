//! Payloads as files that other processes map.
//!
//! A payload on disk is shared as its file: what the page cache has of it is
//! shared memory already. One in memory only moves, once, into memory that has
//! a descriptor and is sealed against writing; it is served from there
//! afterwards, so that it is in memory once.

use std::fs::File;
use std::sync::Arc;

use sheaf_flight::Full;
use sheaf_proto::BatchId;

use super::entry::{Entry, Resident};
use super::{Inner, Store, read, room, spill};
use crate::budget::Held;
use crate::disk::MappedFile;
use crate::error::Error;

/// What a message may add to a file: padding, and its record in the footer,
/// which is in memory once more.
const PER_MESSAGE: u64 = 480;
/// How often metadata of a message is there: as text in the footer, and in the
/// record that is read from it.
const METADATA: u64 = 3;
/// The same for a file as a whole.
const PER_FILE: u64 = 4 << 10;

/// A payload as a file to be mapped for reading.
///
/// The bytes stay good for whoever has mapped them, whatever becomes of the
/// payload. While this lives they count as used memory, where they are memory.
pub struct Shared {
    mapped: Arc<MappedFile>,
    replaced: bool,
    _held: Option<Arc<Held>>,
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("replaced", &self.replaced).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(
        inner: &Arc<Inner>,
        entry: &Entry,
        mapped: Arc<MappedFile>,
        held: Option<Arc<Held>>,
    ) -> Self {
        inner.metrics.shared.inc();
        inner.metrics.shared_now.inc();
        let (inner, replaced) = (Arc::clone(inner), entry.replaced_dictionaries);
        Shared { mapped, replaced, _held: held, inner }
    }

    /// The file, open for reading or sealed.
    pub fn file(&self) -> Arc<File> {
        self.mapped.file()
    }

    /// Whether every library reads it right as an Arrow IPC file; not so where
    /// the stream replaced a dictionary half-way.
    pub fn is_ipc_file(&self) -> bool {
        !self.replaced
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inner.metrics.shared_now.dec();
    }
}

impl Store {
    /// A payload as a file, for programs of this machine that map it.
    ///
    /// Counts as a use.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`]; [`Error::MemoryFull`] where one
    /// in memory only would have to move and there is no room for it twice;
    /// [`Error::Io`].
    pub async fn share(&self, id: &BatchId) -> Result<Shared, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        loop {
            let entry = self.entry(id)?;
            if !entry.touch(inner.now()) {
                return Err(Error::NotFound { id: id.clone() });
            }
            if entry.place().file.is_some() {
                let mapped = read::file(inner, &entry).await?;
                return Ok(Shared::new(inner, &entry, mapped, None));
            }
            if let Some(shared) = in_memory(inner, &entry) {
                return Ok(shared);
            }
            move_to_segment(inner, id).await?;
        }
    }
}

/// One that has moved already.
fn in_memory(inner: &Arc<Inner>, entry: &Entry) -> Option<Shared> {
    let resident = entry.place().memory.clone()?;
    let mapped = resident.segment?;
    Some(Shared::new(inner, entry, mapped, Some(resident.held)))
}

/// Moves the messages of a payload into a segment, unless somebody did.
async fn move_to_segment(inner: &Arc<Inner>, id: &BatchId) -> Result<(), Error> {
    let (inner, id) = (Arc::clone(inner), id.clone());
    let work = {
        let inner = Arc::clone(&inner);
        async move {
            let (_claim, entry) = inner.index.claim(&id).await;
            let entry = entry.ok_or(Error::NotFound { id })?;
            let done = {
                let place = entry.place();
                place.file.is_some()
                    || place.memory.as_ref().is_none_or(|memory| memory.segment.is_some())
            };
            if done {
                return Ok(());
            }
            let held = room_for(&inner, &entry).await?;
            let mapped = Arc::new(spill::copy_to_memory(&inner, &entry).await?);
            let messages = mapped.all().collect();
            let resident = Resident { messages, held: Arc::new(held), segment: Some(mapped) };
            entry.place().memory = Some(resident);
            inner.measure();
            Ok(())
        }
    };
    // By itself: a caller that goes away leaves nothing half done.
    inner.tasks.spawn(work).await.map_err(|_| Error::TaskLost)?
}

/// Counts what the segment is going to take, beside what the payload has now.
async fn room_for(inner: &Arc<Inner>, entry: &Entry) -> Result<Held, Error> {
    let resident = entry.place().memory.clone();
    let messages = resident.as_ref().map_or(&[][..], |resident| &resident.messages);
    let sizes = messages.iter().map(|kept| {
        let beside = (kept.message.app_metadata.len() + kept.put_header.len()) as u64;
        kept.sent_len() + METADATA * beside + PER_MESSAGE
    });
    // The schema once more, in the footer.
    let bytes = sizes.sum::<u64>() + entry.as_put().schema.len() as u64 + PER_FILE;
    drop(resident);
    let (account, mut held) = (&inner.account, Held::new(&inner.account));
    if !account.can_ever_hold(bytes) {
        let full = Full { needed: bytes, used: account.used(), limit: account.limit() };
        return Err(room::refusal(full));
    }
    room::hold(inner, &mut held, bytes).await?;
    Ok(held)
}
