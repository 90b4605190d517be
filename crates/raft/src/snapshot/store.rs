//! The directory of a node's snapshots.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::incoming::Partial;
use super::write::discard;
use super::{Error, Head, IncomingSnapshot, SnapshotFile, SnapshotId, SnapshotWriter};
use crate::log::sync_directory;

/// Snapshots that stay.
const KEPT: usize = 2;
const SUFFIX: &str = "arrow";
const TEMPORARY: &str = "tmp";
const DAMAGED: &str = "damaged";

/// How snapshots are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most bytes that one may have, of this node or received.
    pub limit_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { limit_bytes: 256 << 30 }
    }
}

/// The snapshots of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    cluster: String,
    options: Options,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Newest last.
    files: Vec<SnapshotFile>,
    damaged: Option<PathBuf>,
    pub(super) partial: Option<Partial>,
    temporaries: u64,
}

impl Snapshots {
    /// Opens `path`, which is made where it is not there: checks the snapshots, and
    /// removes what is left of those that were not finished. Waits for the disk.
    ///
    /// A damaged one is set aside (`….damaged`, the newest one stays).
    ///
    /// # Errors
    /// `Newer` and `Foreign` of a snapshot, and those of the system.
    pub fn open(path: &Path, cluster: &str, options: Options) -> Result<Snapshots, Error> {
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let mut kept = Kept::default();
        for file in sorted(path)? {
            match SnapshotFile::open(&file, cluster) {
                Ok(file) => kept.files.push(file),
                Err(error @ Error::Damaged { .. }) => {
                    tracing::error!(%error, "a snapshot is set aside");
                    kept.damaged = Some(set_aside(path, &file)?);
                }
                Err(error) => return Err(error),
            }
        }
        prune(&mut kept.files);
        sync_directory(path).map_err(Error::io("sync", path))?;
        let inner = Inner {
            path: path.to_path_buf(),
            cluster: cluster.to_owned(),
            options,
            kept: Mutex::new(kept),
        };
        Ok(Snapshots { inner: Arc::new(inner) })
    }

    /// The newest one.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.kept().files.last().cloned()
    }

    /// Whether the log, of which entries up to `purged` are gone, goes on where
    /// the newest snapshot ends.
    ///
    /// # Errors
    /// `NotCovered` where it does not.
    pub fn check(&self, purged: Option<u64>) -> Result<(), Error> {
        let Some(purged) = purged else { return Ok(()) };
        let kept = self.kept();
        let last = kept.files.last().and_then(|file| file.meta().last_log_id);
        let snapshot = last.map(|last| last.index);
        if snapshot >= Some(purged) {
            return Ok(());
        }
        Err(Error::NotCovered { purged, snapshot, damaged: kept.damaged.clone() })
    }

    /// Takes part of a snapshot of another node, from its begin or from where the
    /// last try to receive the same one ended.
    ///
    /// # Errors
    /// `TooLarge`, and those of the system.
    pub fn receive(&self, id: SnapshotId) -> Result<IncomingSnapshot, Error> {
        let limit = self.inner.options.limit_bytes;
        if id.bytes > limit {
            return Err(Error::TooLarge { actual: id.bytes, limit });
        }
        let partial = self.kept().partial.take().filter(|partial| partial.id == id);
        let partial = match partial {
            Some(partial) => partial,
            None => Partial::create(self.temporary("incoming"), id)?,
        };
        Ok(IncomingSnapshot::new(self.clone(), partial))
    }

    /// Keeps what was received, for the next try; the one that has more stays.
    pub(super) fn keep_partial(&self, partial: Partial) {
        let mut kept = self.kept();
        let is_less =
            |other: &Partial| other.id == partial.id && other.received >= partial.received;
        if !kept.partial.as_ref().is_some_and(is_less) {
            kept.partial = Some(partial);
        }
    }

    pub(crate) fn write(&self, head: &Head) -> Result<SnapshotWriter, Error> {
        let path = self.temporary("building");
        SnapshotWriter::create(path, &self.inner.cluster, head, self.inner.options.limit_bytes)
    }

    /// Checks a file that was written under another name. It is removed
    /// where it is not whole, and else with the last clone unless it is adopted.
    pub(crate) fn check_file(&self, path: &Path) -> Result<SnapshotFile, Error> {
        match SnapshotFile::open(path, &self.inner.cluster) {
            Ok(file) => Ok(file.temporary()),
            Err(error) => {
                discard(path);
                Err(error)
            }
        }
    }

    /// Makes a whole file the newest snapshot; it is on disk when this returns.
    pub(crate) fn adopt(&self, file: SnapshotFile) -> Result<SnapshotFile, Error> {
        let mut kept = self.kept();
        if let Some(same) = kept.files.iter().find(|kept| kept.path() == file.path()) {
            return Ok(same.clone());
        }
        let id = file.id();
        let path = self.inner.path.join(format!("{:020}-{:020}.{SUFFIX}", id.term, id.index));
        let file = file.rename(path)?;
        let directory = &self.inner.path;
        sync_directory(directory).map_err(Error::io("sync", directory))?;
        kept.files.retain(|kept| kept.path() != file.path());
        kept.files.push(file.clone());
        kept.files.sort_by_key(|file| file.meta().last_log_id);
        prune(&mut kept.files);
        Ok(file)
    }

    fn temporary(&self, what: &str) -> PathBuf {
        let mut kept = self.kept();
        kept.temporaries += 1;
        self.inner.path.join(format!("{what}-{}.{TEMPORARY}", kept.temporaries))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The snapshots in order; removes what was not finished.
fn sorted(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let reading = || Error::io("list", directory);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(reading())? {
        let path = entry.map_err(reading())?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(SUFFIX) => files.push(path),
            Some(TEMPORARY) => {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

/// Renames a damaged snapshot, in place of the one of before.
fn set_aside(directory: &Path, file: &Path) -> Result<PathBuf, Error> {
    let reading = || Error::io("list", directory);
    for entry in std::fs::read_dir(directory).map_err(reading())? {
        let path = entry.map_err(reading())?.path();
        if path.extension().is_some_and(|extension| extension == DAMAGED) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    let aside = file.with_extension(DAMAGED);
    std::fs::rename(file, &aside).map_err(Error::io("rename", file))?;
    Ok(aside)
}

/// Removes all but the newest; who reads one goes on to read it.
fn prune(files: &mut Vec<SnapshotFile>) {
    while files.len() > KEPT {
        discard(files.remove(0).path());
    }
}
