//! Payloads as files, for a copy of the data directory.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_proto::BatchId;

use super::{Inner, Store, read, spill};
use crate::error::{Error, io_error};

/// A file of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its path in the data directory, with `/` between the parts.
    pub name: String,
    /// All of it; of a payload a part of the mapped file.
    pub content: Bytes,
}

impl Store {
    /// Every file that a payload has in a data directory: that of its
    /// messages first, then its marks. Its checksums were compared.
    ///
    /// One that is in memory only is written to disk for that, as if it had to
    /// make room. Does not count as a use. Nothing keeps the payload but a
    /// [`Hold`](crate::Hold); the bytes returned stay good whatever happens.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] where it is damaged;
    /// [`Error::NoDirectory`] for a store in memory only; those of writing.
    pub async fn files(&self, id: &BatchId) -> Result<Vec<DataFile>, Error> {
        let inner = &self.inner;
        let entry = self.entry(id)?;
        let Some(directory) = &inner.directory else { return Err(Error::NoDirectory) };
        if entry.place().file.is_none() {
            write_out(inner, id).await?;
        }
        let mapped = read::file(inner, &entry).await?;
        let loading = mapped.clone();
        let loaded = tokio::task::spawn_blocking(move || loading.load_all()).await;
        let loaded = loaded.map_err(|_| Error::TaskLost)?;
        loaded.map_err(|error| io_error("read", mapped.path(), error))?;
        let mut files = vec![DataFile {
            name: directory.name_of(&directory.payload(id)),
            content: mapped.bytes(),
        }];
        for mark in directory.marks(id) {
            match tokio::fs::read(&mark).await {
                Ok(content) => {
                    files.push(DataFile { name: directory.name_of(&mark), content: content.into() })
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("read", &mark, error)),
            }
        }
        // In memory a pin has no file; in the copy the payload is on disk.
        let pin = directory.name_of(&directory.pin(id));
        if entry.is_pinned() && !files.iter().any(|file| file.name == pin) {
            files.push(DataFile { name: pin, content: Bytes::new() });
        }
        Ok(files)
    }
}

/// Gives a payload that is in memory a file too; it stays in memory.
async fn write_out(inner: &Arc<Inner>, id: &BatchId) -> Result<(), Error> {
    let (inner, id) = (Arc::clone(inner), id.clone());
    let work = {
        let inner = Arc::clone(&inner);
        async move {
            let (_claim, entry) = inner.index.claim(&id).await;
            let entry = entry.ok_or(Error::NotFound { id })?;
            if entry.place().file.is_none() {
                let file = spill::copy_to_file(&inner, &entry, false).await?;
                entry.place().file = Some(file);
            }
            Ok(())
        }
    };
    // By itself: a caller that goes away leaves no file that nobody counts.
    inner.tasks.spawn(work).await.map_err(|_| Error::TaskLost)?
}
