//! Reading a payload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::MessageStream;
use sheaf_flight::ipc::{Kind, inspect};
use sheaf_proto::BatchId;

use super::entry::{Entry, Resident};
use super::{Inner, Store, recode, select};
use crate::bodies::Bodies;
use crate::disk::{Broken, MappedFile, OpenError};
use crate::error::{Error, io_error};
use crate::kept::Kept;
use crate::options::ReadOptions;

impl Store {
    /// Opens a payload: the schema first, then the messages as they are stored,
    /// which is as they were put unless the store compressed them.
    ///
    /// Without options no bytes are copied or decoded. `columns`, `offset` and
    /// `limit` decode, cut and encode anew, with the schema's metadata kept.
    /// `bodies` compresses and decompresses, one message at a time.
    /// The stream goes on to its end even if the payload is deleted meanwhile.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] where the stored bytes are not
    /// those that were put, which are then never served; [`Error::Invalid`]
    /// for options that cannot be combined or columns that there are not.
    pub async fn read(&self, id: &BatchId, options: &ReadOptions) -> Result<MessageStream, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        let entry = inner.index.get(id).ok_or_else(|| Error::NotFound { id: id.clone() })?;
        if !entry.touch(inner.now()) {
            return Err(Error::NotFound { id: id.clone() });
        }
        let source = source(inner, &entry).await?;
        inner.metrics.reads.inc();
        if options.is_whole() {
            let messages = messages_after(source, options.from_message);
            return Ok(match options.bodies {
                Bodies::Stored => {
                    messages.map_ok(|kept| kept.message).map_err(sheaf_flight::Error::from).boxed()
                }
                _ => recode::recoded(inner, messages, &options.bodies),
            });
        }
        if options.from_message > 0 {
            let text = "from_message cannot be combined with columns, offset or limit";
            return Err(Error::Invalid(text.to_owned()));
        }
        select::select(inner, source, options).await
    }
}

/// Where the messages of a payload are read from.
#[derive(Clone)]
pub(crate) enum Source {
    Memory(Resident),
    File(Arc<MappedFile>),
}

impl Source {
    pub(crate) fn get(&self, number: usize) -> Option<Kept> {
        match self {
            Source::Memory(resident) => resident.messages.get(number).cloned(),
            Source::File(mapped) => mapped.kept(number),
        }
    }

    /// Sees to it that a message can be touched. Blocks where it has to be read
    /// from the disk; the answer is up to which number that is done.
    pub(crate) fn load(&self, number: usize) -> Result<usize, Error> {
        match self {
            Source::Memory(_) => Ok(usize::MAX),
            Source::File(mapped) => {
                let end = mapped.step_from(number);
                let loaded = mapped.load_messages(number..end);
                loaded.map_err(|error| io_error("read", mapped.path(), error))?;
                Ok(end.max(number + 1))
            }
        }
    }

    /// All in order; an error is the last. Blocks.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Result<Kept, Error>> {
        let mut loaded = 0;
        (0..).map_while(move |number| {
            if number >= loaded {
                match self.load(number) {
                    Ok(end) => loaded = end,
                    Err(error) => return Some(Err(error)),
                }
            }
            self.get(number).map(Ok)
        })
    }
}

/// As [`Source::load`]; pages that come from the disk keep no other call waiting.
async fn loaded(source: &Source, number: usize) -> Result<usize, Error> {
    if let Source::Memory(_) = source {
        return source.load(number);
    }
    let source = source.clone();
    let load = tokio::task::spawn_blocking(move || source.load(number));
    load.await.map_err(|_| Error::TaskLost)?
}

/// Messages as they are kept.
pub(super) type KeptStream = BoxStream<'static, Result<Kept, Error>>;

/// Where a reader is.
pub(super) struct Cursor {
    source: Source,
    next: usize,
    /// Up to which number messages were read from the disk.
    loaded: usize,
}

impl Cursor {
    /// Before the first message.
    pub(super) fn new(source: Source) -> Self {
        Cursor { source, next: 0, loaded: 0 }
    }

    /// The next message and its number, which can be touched.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Kept)>, Error> {
        let number = self.next;
        if number >= self.loaded {
            self.loaded = loaded(&self.source, number).await?;
        }
        let kept = self.source.get(number);
        self.next += usize::from(kept.is_some());
        Ok(kept.map(|kept| (number, kept)))
    }
}

/// Number 0 is the schema, `from_message` counts from the one after it; the
/// dictionaries of what comes are always needed.
fn is_wanted(number: usize, kept: &Kept, from_message: u64) -> bool {
    let is_dictionary = || {
        inspect(&kept.message.header)
            .is_ok_and(|outline| matches!(outline.kind, Kind::Dictionary { .. }))
    };
    number == 0 || number as u64 > from_message || is_dictionary()
}

fn messages_after(source: Source, from_message: u64) -> KeptStream {
    match source {
        Source::Memory(resident) => {
            let all = (0..).map_while(move |number| {
                resident.messages.get(number).map(|kept| (number, kept.clone()))
            });
            let wanted = all.filter(move |(number, kept)| is_wanted(*number, kept, from_message));
            stream::iter(wanted.map(|(_, kept)| Ok(kept))).boxed()
        }
        Source::File(_) => {
            let all = stream::try_unfold(Cursor::new(source), |mut cursor| async move {
                Ok(cursor.next().await?.map(|found| (found, cursor)))
            });
            let wanted = all.try_filter(move |(number, kept)| {
                std::future::ready(is_wanted(*number, kept, from_message))
            });
            wanted.map_ok(|(_, kept)| kept).boxed()
        }
    }
}

/// The messages of a payload: from memory, or from its file, whose checksums
/// are compared the first time.
pub(crate) async fn source(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<Source, Error> {
    loop {
        if let Some(source) = try_source(inner, entry).await? {
            return Ok(source);
        }
    }
}

async fn try_source(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<Option<Source>, Error> {
    let memory = entry.place().memory.clone();
    match memory {
        Some(memory) => Ok(Some(Source::Memory(memory))),
        None => Ok(try_file(inner, entry).await?.map(Source::File)),
    }
}

/// The file of a payload that has one, whether or not it is in memory too.
pub(crate) async fn file(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<Arc<MappedFile>, Error> {
    loop {
        if let Some(mapped) = try_file(inner, entry).await? {
            return Ok(mapped);
        }
    }
}

/// `None` where the payload moved to another file meanwhile, which happens
/// once: when it becomes durable.
async fn try_file(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
) -> Result<Option<Arc<MappedFile>>, Error> {
    let id = &entry.as_put().id;
    let path = {
        let place = entry.place();
        if let Some(mapped) = place.mapped.upgrade() {
            return Ok(Some(mapped));
        }
        let file = place.file.as_ref().ok_or_else(|| Error::NotFound { id: id.clone() })?;
        file.path.clone()
    };
    let (at, checked) = (path.clone(), Arc::clone(entry));
    let opened = tokio::task::spawn_blocking(move || open(&at, &checked));
    match opened.await.map_err(|_| Error::TaskLost)? {
        Ok(mapped) => {
            let mapped = Arc::new(mapped);
            entry.place().mapped = Arc::downgrade(&mapped);
            Ok(Some(mapped))
        }
        // Deleted since it was looked up.
        Err(OpenError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let moved = entry.place().file.as_ref().is_some_and(|file| file.path != path);
            if moved {
                return Ok(None);
            }
            Err(Error::NotFound { id: id.clone() })
        }
        Err(OpenError::Io(error)) => Err(io_error("read", &path, error)),
        Err(OpenError::Broken(broken)) => {
            let detail = match broken {
                Broken::Damaged(detail) => detail,
                Broken::Newer(found) => format!("format {found}"),
            };
            Err(set_aside(inner, entry, &path, detail).await)
        }
    }
}

fn open(path: &std::path::Path, entry: &Entry) -> Result<MappedFile, OpenError> {
    let damaged = |text: String| OpenError::Broken(Broken::Damaged(text));
    let mapped = MappedFile::open(path)?;
    let info = entry.as_put();
    let (record, checksum) = (&mapped.record, &info.checksum);
    if record.id != info.id.as_str() || record.checksum != *checksum {
        return Err(damaged(format!("it holds payload {} {}", record.id, record.checksum)));
    }
    if !entry.verified.load(Ordering::Relaxed) {
        mapped.verify()?;
        entry.verified.store(true, Ordering::Relaxed);
    }
    Ok(mapped)
}

/// Takes a damaged payload out of the store.
async fn set_aside(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    path: &std::path::Path,
    detail: String,
) -> Error {
    let id = entry.as_put().id.clone();
    let Some(claim) = inner.index.try_claim(&id) else {
        // Somebody deletes it, or found the damage too.
        return Error::NotFound { id };
    };
    // The next payload of that name must not have its mark.
    inner.unmark_later(std::slice::from_ref(&id));
    let removed = inner.forget(entry);
    if !removed {
        return Error::NotFound { id };
    }
    inner.metrics.corrupt.inc();
    inner.quarantined.fetch_add(1, Ordering::Relaxed);
    let aside = match &inner.directory {
        None => path.to_path_buf(),
        Some(directory) => match directory.quarantine(inner.disk.as_ref(), path) {
            Ok(aside) => aside,
            Err(error) => {
                tracing::warn!(%error, "a damaged file stays where it is");
                path.to_path_buf()
            }
        },
    };
    tracing::warn!(payload = %id, file = %aside.display(), detail, "a payload is damaged");
    drop(claim);
    Error::Corrupt { id, path: aside, detail }
}
