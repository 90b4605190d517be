//! Reading a payload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{Kind, inspect};
use sheaf_flight::{Message, MessageStream};
use sheaf_proto::BatchId;

use super::entry::{Entry, Resident};
use super::{Inner, Store, select};
use crate::disk::{Broken, MappedFile, OpenError};
use crate::error::{Error, io_error};
use crate::options::ReadOptions;

impl Store {
    /// Opens a payload: the schema first, then the messages as they were put.
    ///
    /// Without options no bytes are copied or decoded. `columns`, `offset` and
    /// `limit` decode, cut and encode anew, with the schema's metadata kept.
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
        if options.is_verbatim() {
            return Ok(verbatim(source, options.from_message));
        }
        if options.from_message > 0 {
            let text = "from_message cannot be combined with columns, offset or limit";
            return Err(Error::Invalid(text.to_owned()));
        }
        // What one message unfolds to has to fit into memory too.
        let mut bounds = inner.options.bounds.clone();
        let most = inner.account.limit().min(inner.unfolding.limit() / select::COPIES);
        bounds.max_decoded_bytes = bounds.max_decoded_bytes.min(most);
        select::select(inner, source, options, bounds)
    }
}

/// Where the messages of a payload are read from.
#[derive(Clone)]
pub(crate) enum Source {
    Memory(Resident),
    File(Arc<MappedFile>),
}

impl Source {
    pub(crate) fn get(&self, number: usize) -> Option<Message> {
        match self {
            Source::Memory(resident) => resident.messages.get(number).cloned(),
            Source::File(mapped) => mapped.message(number),
        }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = Message> {
        (0..).map_while(|number| self.get(number))
    }
}

fn verbatim(source: Source, from_message: u64) -> MessageStream {
    let messages =
        (0..).map_while(move |number| source.get(number).map(|message| (number, message)));
    let wanted = messages.filter(move |(number, message)| {
        let is_dictionary = || {
            inspect(&message.header)
                .is_ok_and(|outline| matches!(outline.kind, Kind::Dictionary { .. }))
        };
        // Number 0 is the schema, from_message counts from the one after it.
        *number == 0 || *number as u64 > from_message || is_dictionary()
    });
    stream::iter(wanted.map(|(_, message)| Ok(message))).boxed()
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
        mapped.verify().map_err(damaged)?;
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
