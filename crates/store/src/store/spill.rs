//! Writing payloads to files: at put, to make room, or to make them durable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sheaf_flight::ipc::inspect;
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::PayloadRecord;

use super::entry::{Entry, Stored};
use super::intake::{file_bytes, recorded};
use super::{Inner, read};
use crate::disk::{
    AnonymousMemory, Checked, FileWriter, MappedFile, Names, OpenError, crc_of, remove_quietly,
    seal,
};
use crate::error::{Error, io_error};
use crate::payload::PayloadInfo;

/// What the file of a payload says of it.
pub(crate) fn record_of(info: &PayloadInfo) -> PayloadRecord {
    let (version, stored_bytes) = recorded(info.bytes, info.stored_bytes);
    PayloadRecord {
        version,
        stored_bytes,
        id: info.id.to_string(),
        rows: info.rows,
        bytes: info.bytes,
        checksum: info.checksum.clone(),
        schema_fingerprint: info.schema_fingerprint.clone(),
        created_at: info.created_at.as_micros(),
        put_by: info.put_by.as_deref().unwrap_or_default().to_owned(),
        ..PayloadRecord::default()
    }
}

/// A file to be.
pub(crate) struct NewFile {
    pub(crate) id: BatchId,
    pub(crate) record: PayloadRecord,
    pub(crate) schema: Bytes,
    pub(crate) replaced: bool,
    pub(crate) durable: bool,
}

/// Writes what `messages` has to the file that was begun, or to a new one, and
/// gives it its name. The messages come back.
pub(crate) async fn write(
    inner: &Arc<Inner>,
    new: NewFile,
    (writer, mut reserved): (Option<FileWriter>, Reserved),
    messages: Vec<Checked>,
) -> Result<(Stored, Vec<Checked>), Error> {
    let Some(directory) = &inner.directory else { return Err(Error::NoDirectory) };
    reserved.grow(messages.iter().map(file_bytes).sum())?;
    let result = write_reserved(inner, directory, new, writer, messages).await;
    if let Ok((stored, _)) = &result {
        reserved.becomes(stored.length);
    }
    result
}

/// Bytes of a file to be; given back where it fails, or its caller goes away.
pub(crate) struct Reserved {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Reserved {
    /// Nothing so far.
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Reserved { inner: Arc::clone(inner), bytes: 0 }
    }

    /// So much more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        self.inner.reserve_disk(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// There is a file of this length now, which counts from here on.
    fn becomes(mut self, length: u64) {
        let reserved = std::mem::take(&mut self.bytes);
        self.inner.disk_used.fetch_add(length.saturating_sub(reserved), Ordering::Relaxed);
        self.inner.release_disk(reserved.saturating_sub(length));
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.release_disk(self.bytes);
    }
}

async fn write_reserved(
    inner: &Arc<Inner>,
    directory: &crate::disk::Directory,
    new: NewFile,
    writer: Option<FileWriter>,
    messages: Vec<Checked>,
) -> Result<(Stored, Vec<Checked>), Error> {
    let (disk, temporary) = (Arc::clone(&inner.disk), directory.temporary());
    let NewFile { id, record, schema, replaced, durable } = new;
    let stale_pin = durable.then(|| directory.pin(&id));
    let work = move || {
        let mut writer = match writer {
            Some(writer) => writer,
            None => FileWriter::create(disk, temporary)?,
        };
        for message in &messages {
            writer.append(message)?;
        }
        let written = writer.finish(record, &schema, replaced, durable)?;
        // Of an earlier payload of that name: this one is not pinned yet. The
        // sync of the directory that publishes it makes this durable too.
        match stale_pin.map(|pin| (std::fs::remove_file(&pin), pin)) {
            Some((Err(error), pin)) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &pin, error));
            }
            _ => {}
        }
        Ok((written, messages))
    };
    let (written, messages) = inner.committer.write(work).await?;
    let length = written.length();
    let path = if durable { directory.payload(&id) } else { directory.spilled() };
    if durable {
        inner.committer.commit(Names::Publish(written, path.clone())).await?;
    } else {
        // One rename: as quick as handing it to another thread.
        written.rename(&path)?;
    }
    Ok((Stored { path, length, durable }, messages))
}

/// Makes a payload durable that was acknowledged in memory. The caller holds
/// the claim on its name.
pub(crate) async fn persist(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<(), Error> {
    let old = entry.place().file.clone();
    if old.as_ref().is_some_and(|file| file.durable) {
        return Ok(());
    }
    let file = copy_to_file(inner, entry, true).await?;
    {
        let mut place = entry.place();
        place.file = Some(file);
        place.mapped = std::sync::Weak::new();
    }
    if let Some(old) = old {
        inner.release_disk(old.length);
        remove_quietly(inner.disk.as_ref(), &old.path);
    }
    Ok(())
}

/// Writes a payload that is in memory, so that its memory can be given up.
pub(crate) async fn copy_to_file(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    durable: bool,
) -> Result<Stored, Error> {
    let (new, messages) = described(inner, entry, durable).await?;
    let (stored, _) = write(inner, new, (None, Reserved::new(inner)), messages).await?;
    Ok(stored)
}

/// The same into memory that other processes can map, sealed.
pub(crate) async fn copy_to_memory(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
) -> Result<MappedFile, Error> {
    let (NewFile { record, schema, replaced, .. }, messages) =
        described(inner, entry, false).await?;
    let write = move || {
        let path = Path::new("sheaf payload");
        let mut writer = FileWriter::create(Arc::new(AnonymousMemory), path.to_path_buf())?;
        for message in &messages {
            writer.append(message)?;
        }
        let file = writer.finish(record, &schema, replaced, false)?.into_file();
        let file = file.ok_or(Error::TaskLost)?;
        seal(&file).map_err(|error| io_error("seal", path, error))?;
        match MappedFile::of(file, Box::new(())) {
            Ok(mapped) => Ok(mapped),
            Err(OpenError::Io(error)) => Err(io_error("map", path, error)),
            Err(OpenError::Broken(broken)) => Err(Error::Invalid(format!("{broken:?}"))),
        }
    };
    tokio::task::spawn_blocking(write).await.map_err(|_| Error::TaskLost)?
}

/// What a file of a payload says, and the messages for it.
async fn described(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    durable: bool,
) -> Result<(NewFile, Vec<Checked>), Error> {
    let source = read::source(inner, entry).await?;
    let check = move || {
        let checked = source.messages().map(|kept| {
            let kept = kept?;
            let outline = inspect(&kept.message.header)?;
            let crc = crc_of(&kept.message);
            Ok(Checked { kept, kind: outline.kind, rows: outline.rows, crc })
        });
        checked.collect::<Result<Vec<_>, Error>>()
    };
    // Reads every byte: nothing for a thread that others wait on.
    let messages = tokio::task::spawn_blocking(check).await.map_err(|_| Error::TaskLost)??;
    let info = entry.as_put();
    let new = NewFile {
        id: info.id.clone(),
        record: record_of(info),
        schema: info.schema.clone(),
        replaced: entry.replaced_dictionaries,
        durable,
    };
    Ok((new, messages))
}
