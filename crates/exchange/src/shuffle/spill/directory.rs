//! The directory of a process, its lock, and how much may be in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_store::Disk;

use crate::shuffle::error::Error;

const LOCK: &str = "spill.lock";
const EXTENSION: &str = "spill";

/// Where chunks are spilled to. One process has it at a time.
#[derive(Debug)]
pub(in crate::shuffle) struct SpillDirectory {
    disk: AnyDisk,
    path: PathBuf,
    limit: u64,
    used: AtomicU64,
    next: AtomicU64,
    lock: File,
}

/// So that what has one can be shown.
struct AnyDisk(Arc<dyn Disk>);

impl std::fmt::Debug for AnyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl SpillDirectory {
    /// Takes a directory, and makes it where there is none. What a dead process
    /// left in it is removed; other files are not touched. Blocks.
    pub(in crate::shuffle) fn open(
        path: &Path,
        limit: u64,
        disk: Arc<dyn Disk>,
    ) -> Result<Arc<Self>, Error> {
        fs::create_dir_all(path).map_err(|error| spill_io("create", path, error))?;
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| spill_io("open", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::SpillLocked { path: path.to_path_buf() });
            }
            Err(TryLockError::Error(error)) => return Err(spill_io("lock", &lock_path, error)),
        }
        let (used, next) = (AtomicU64::new(0), AtomicU64::new(0));
        let (disk, path) = (AnyDisk(disk), path.to_path_buf());
        let directory = SpillDirectory { disk, path, limit, used, next, lock };
        for left in directory.files().map_err(|error| spill_io("list", &directory.path, error))? {
            let removed = directory.disk.0.remove(&left);
            removed.map_err(|error| spill_io("remove", &left, error))?;
        }
        Ok(Arc::new(directory))
    }

    /// Bytes of all files.
    pub(in crate::shuffle) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that still fit.
    pub(in crate::shuffle) fn spare(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk.0
    }

    pub(super) fn next_path(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{number}.{EXTENSION}"))
    }

    /// Counts a file to be.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.limit;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let reserved = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        reserved.map(drop).map_err(|used| Error::SpillFull { needed: bytes, used, limit })
    }

    /// Removes a file, which counts until it is gone. Blocks.
    pub(super) fn remove(&self, path: &Path, bytes: u64) {
        match self.disk.0.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = path.display();
                tracing::warn!(%error, %path, "a spill file could not be removed");
            }
            _ => {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|its| its == EXTENSION) {
                files.push(path);
            }
        }
        Ok(files)
    }
}

impl Drop for SpillDirectory {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just
        // starting has a copy of it, until it runs its own program.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "could not unlock the spill directory");
        }
    }
}

pub(super) fn spill_io(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::SpillIo { operation, path: path.to_path_buf(), source }
}
