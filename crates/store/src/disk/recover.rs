//! What a start finds in the data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::PayloadRecord;

use super::directory::{Directory, EXTENSION, MARKS};
use super::io::Disk;
use super::map::{Footer, OpenError, read_footer};
use super::record::Broken;
use super::writer::remove_quietly;
use crate::error::{Error, io_error};
use crate::store::Noted;

/// A payload that was found.
pub(crate) struct Recovered {
    pub(crate) id: BatchId,
    pub(crate) record: PayloadRecord,
    pub(crate) schema: bytes::Bytes,
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    pub(crate) pinned: bool,
    /// Of its mark as registered.
    pub(crate) mark: Option<Noted>,
}

/// Reads the footer of every file, in as many threads as there are processors.
///
/// A file that is no payload is set aside; their number is the second answer.
/// Bodies are not read: their checksums are compared when they are first used.
pub(crate) fn recover(
    directory: &Directory,
    disk: &dyn Disk,
) -> Result<(Vec<Recovered>, u64), Error> {
    let shards: Vec<_> = directory.shards().collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::new(), 0));
    let first_error = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match scan(directory, disk, shard) {
                        Ok((payloads, broken)) => {
                            if let Ok(mut found) = found.lock() {
                                found.0.extend(payloads);
                                found.1 += broken;
                            }
                        }
                        Err(error) => {
                            if let Ok(mut first) = first_error.lock() {
                                first.get_or_insert(error);
                            }
                            return;
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = first_error.into_inner().unwrap_or(None) {
        return Err(error);
    }
    found.into_inner().map_err(|_| Error::TaskLost)
}

pub(crate) fn scan(
    directory: &Directory,
    disk: &dyn Disk,
    shard: &Path,
) -> Result<(Vec<Recovered>, u64), Error> {
    let (mut payloads, mut broken, mut marks) = (Vec::new(), 0, Vec::new());
    let entries = fs::read_dir(shard).map_err(|error| io_error("read", shard, error))?;
    for entry in entries {
        let path = entry.map_err(|error| io_error("read", shard, error))?.path();
        if path.extension().is_some_and(|extension| MARKS.iter().any(|mark| extension == *mark)) {
            marks.push(path);
            continue;
        }
        match read(directory, &path) {
            Ok(payload) => payloads.push(payload),
            Err(OpenError::Io(error)) => return Err(io_error("read", &path, error)),
            Err(OpenError::Broken(Broken::Newer(found))) => {
                let supported = u64::from(super::RECORD_VERSION);
                return Err(Error::FormatNewer { path, found, supported });
            }
            Err(OpenError::Broken(Broken::Damaged(detail))) => {
                let aside = directory.quarantine(disk, &path)?;
                tracing::warn!(file = %aside.display(), detail, "set a damaged payload aside");
                broken += 1;
            }
        }
    }
    for mark in marks {
        // Of a payload that is gone: it must not be that of the next one.
        if !mark.with_extension(EXTENSION).exists() {
            remove_quietly(disk, &mark);
        }
    }
    Ok((payloads, broken))
}

fn read(directory: &Directory, path: &Path) -> Result<Recovered, OpenError> {
    let damaged = |text: String| OpenError::Broken(Broken::Damaged(text));
    if path.extension().is_none_or(|extension| extension != EXTENSION) {
        return Err(damaged("not a name of the store's".to_owned()));
    }
    let Footer { record, schema, length } = read_footer(path)?;
    let id = BatchId::try_new(&record.id).map_err(|error| damaged(error.to_string()))?;
    if directory.payload(&id) != path {
        return Err(damaged(format!("it holds payload {id}, under another name")));
    }
    let pinned = directory.pin(&id).exists();
    Ok(Recovered { id, record, schema, path: path.to_path_buf(), length, pinned, mark: None })
}
