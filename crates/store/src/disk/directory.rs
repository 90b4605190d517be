//! Paths in the data directory, and its lock.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};
use sheaf_proto::BatchId;

use super::format;
use super::io::Disk;
use crate::error::{Error, io_error};

/// Everything that is not plain in a file name somewhere; the colon is not on
/// some systems.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
pub(super) const EXTENSION: &str = "arrow";
const PIN_EXTENSION: &str = "pin";
/// Endings of the files that a payload may have beside its own: what is copied
/// with it, and what is removed at a start where it is gone.
pub(super) const MARKS: [&str; 1] = [PIN_EXTENSION];
pub(super) const BATCHES: &str = "batches";
/// In a data directory, the journal of registrations.
pub const REGISTERED_FILE: &str = "registered.log";

/// A data directory that this process holds.
///
/// ```text
/// FORMAT                     number of the format
/// store.lock                 held by flock; the number of the holder's process
/// registered.log             which payloads a coordinator has, see [`super::Journal`]
/// batches/XX/ID.arrow        payloads; XX spreads them over 256 directories
/// batches/XX/ID.pin          there while the payload is pinned
/// batches/_tmp/              unfinished, removed at the next start
/// batches/_spill/            memory payloads that had to make room; the same
/// batches/quarantine/        damaged files
/// ```
pub(crate) struct Directory {
    root: PathBuf,
    batches: PathBuf,
    next_name: AtomicU64,
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// Takes the directory, and makes it where there is none.
    pub(crate) fn open(root: &Path, disk: &dyn Disk) -> Result<Self, Error> {
        let refused = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::NotWritable { path, source }
        };
        create_durably(root, disk).map_err(refused(root))?;
        let lock = lock(root)?;
        format::prepare(root, disk)?;
        let batches = root.join(BATCHES);
        for name in ["_tmp", "_spill", "quarantine"] {
            let path = batches.join(name);
            fs::create_dir_all(&path).map_err(refused(&path))?;
        }
        for shard in 0..=u8::MAX {
            let path = batches.join(format!("{shard:02x}"));
            if !path.is_dir() {
                fs::create_dir(&path).map_err(refused(&path))?;
            }
        }
        disk.sync_dir(&batches).map_err(|error| io_error("sync", &batches, error))?;
        disk.sync_dir(root).map_err(|error| io_error("sync", root, error))?;
        let directory = Directory {
            root: root.to_path_buf(),
            batches,
            next_name: AtomicU64::new(0),
            lock: Mutex::new(Some(lock)),
        };
        directory.clear("_tmp")?;
        directory.clear("_spill")?;
        Ok(directory)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Lets another process have the directory.
    pub(crate) fn release(&self) {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Closing the file is not enough: a process that is just being started
        // by another thread has a copy of it, until it runs its own program.
        if let Some(file) = held
            && let Err(error) = flock(&file, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "could not unlock the data directory");
        }
    }

    /// Where a payload lies.
    pub(crate) fn payload(&self, id: &BatchId) -> PathBuf {
        self.named(id, EXTENSION)
    }

    /// The mark of a pinned payload.
    pub(crate) fn pin(&self, id: &BatchId) -> PathBuf {
        self.named(id, PIN_EXTENSION)
    }

    /// The journal of registrations.
    pub(crate) fn registered(&self) -> PathBuf {
        self.root.join(REGISTERED_FILE)
    }

    /// The marks that a payload may have, there or not.
    pub(crate) fn marks(&self, id: &BatchId) -> impl Iterator<Item = PathBuf> {
        MARKS.map(|extension| self.named(id, extension)).into_iter()
    }

    /// The path of a file in the directory, with `/` between its parts.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        inside.to_string_lossy().into_owned()
    }

    /// A new name for an unfinished file.
    pub(crate) fn temporary(&self) -> PathBuf {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        self.batches.join("_tmp").join(number.to_string())
    }

    /// A new name for a spilled memory payload.
    pub(crate) fn spilled(&self) -> PathBuf {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        self.batches.join("_spill").join(format!("{number}.{EXTENSION}"))
    }

    /// The directories that payloads are in.
    pub(super) fn shards(&self) -> impl Iterator<Item = PathBuf> {
        (0..=u8::MAX).map(|shard| self.batches.join(format!("{shard:02x}")))
    }

    /// Moves a damaged file aside; its new name.
    pub(crate) fn quarantine(&self, disk: &dyn Disk, path: &Path) -> Result<PathBuf, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.batches.join("quarantine");
        let mut aside = folder.join(&name);
        while aside.exists() {
            let number = self.next_name.fetch_add(1, Ordering::Relaxed);
            aside = folder.join(format!("{name}.{number}"));
        }
        disk.rename(path, &aside).map_err(|error| io_error("set aside", path, error))?;
        Ok(aside)
    }

    fn named(&self, id: &BatchId, extension: &str) -> PathBuf {
        self.root.join(relative(id, extension))
    }

    fn clear(&self, name: &str) -> Result<(), Error> {
        let folder = self.batches.join(name);
        let entries = fs::read_dir(&folder).map_err(|error| io_error("read", &folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| io_error("read", &folder, error))?.path();
            fs::remove_file(&path).map_err(|error| io_error("remove", &path, error))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.release();
    }
}

/// Where a file of a payload lies in a data directory.
pub(super) fn relative(id: &BatchId, extension: &str) -> String {
    // A file name has at most 255 bytes; an id of 200 colons would have
    // 600 when encoded, so that a long one goes by its hash.
    let mut name = utf8_percent_encode(id.as_str(), ENCODED).to_string();
    let hash = twox_hash::XxHash3_64::oneshot(id.as_str().as_bytes());
    if name.len() > 240 {
        let wide = twox_hash::XxHash3_128::oneshot(id.as_str().as_bytes());
        name = format!("%{wide:032x}");
    }
    format!("{BATCHES}/{:02x}/{name}.{extension}", hash & 0xff)
}

/// Makes a directory and those missing above it, with their names.
pub(super) fn create_durably(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return fs::create_dir(path),
    };
    create_durably(parent, disk)?;
    match fs::create_dir(path) {
        // A coordinator may start in the same directory at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    disk.sync_dir(parent)
}

pub(super) fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("store.lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|source| Error::NotWritable { path: path.clone(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = match (read, pid.trim()) {
                (Ok(_), pid) if !pid.is_empty() => pid.to_owned(),
                _ => "unknown".to_owned(),
            };
            return Err(Error::DirectoryLocked { path: root.to_path_buf(), pid });
        }
        Err(error) => return Err(io_error("lock", &path, error.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| io_error("write", &path, error))?;
    Ok(file)
}
