//! A directory of this machine.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_retry::{SharedClock, Timestamp};

use super::blobs::{Blobs, Tail};
use super::names;
use crate::blocking::blocking;
use crate::error::Error;
use crate::file_sink::{DirSync, create_dir, create_name, lock_dead};

/// How old a file is that nobody writes any more, when it is removed.
const LEFTOVER: Duration = Duration::from_secs(60);

/// Most leftovers, and names of what is pending, that are looked at in one go.
const MAX_NAMES: usize = 1_000;

/// Files below a directory: written and synced under another name, then linked to
/// theirs, which fails where it is taken, and that folder synced.
#[derive(Clone)]
pub(super) struct Local {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    temporary: PathBuf,
    number: AtomicU64,
    /// Folders that are there, and durable.
    folders: Mutex<HashSet<PathBuf>>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Local").field(&self.shared.dir).finish()
    }
}

impl Local {
    /// Makes the directory where it is missing, and removes what writers that died
    /// have left.
    pub(super) async fn open(dir: &Path, clock: SharedClock) -> Result<Self, Error> {
        let temporary = dir.join(names::OURS).join("tmp");
        let (number, folders) = (AtomicU64::new(0), Mutex::default());
        let shared = Arc::new(Shared { dir: dir.to_owned(), temporary, number, folders });
        let local = Local { shared };
        local
            .run("open", "", move |shared| {
                let folder = &shared.temporary;
                create_dir(folder).map_err(|e| Error::io("create directory", folder, e))?;
                shared.clean(clock.now()).map_err(|e| Error::io("clean", folder, e))
            })
            .await?;
        Ok(local)
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (shared, place) = (Arc::clone(&self.shared), self.place(name));
        blocking(operation, &place, move || work(&shared)).await
    }
}

impl Shared {
    fn clean(&self, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.temporary)?.take(MAX_NAMES) {
            let path = entry?.path();
            // A file that somebody writes is locked.
            let Some(file) = lock_dead(&path)? else { continue };
            if now.since(Timestamp::from(file.metadata()?.modified()?)) > LEFTOVER {
                missing_is_fine(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool, Error> {
        self.prepare_folder(path)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (mut temporary, mut taken) = (self.temporary(number), 0);
        // A writer of the same number, in another container, may have died here.
        let mut file = loop {
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && taken < MAX_NAMES => {
                    taken += 1;
                    let number = self.number.fetch_add(1, Ordering::Relaxed);
                    temporary = self.temporary(number);
                }
                other => break other.map_err(|e| Error::io("create", &temporary, e))?,
            }
        };
        let _removed = Removed(&temporary);
        match file.try_lock() {
            // Without locks (some network file systems) age alone tells.
            Ok(()) | Err(TryLockError::Error(_) | TryLockError::WouldBlock) => {}
        }
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|e| Error::io("write", path, e))?;
        let is_new = create_name(&temporary, path)?;
        // Also where it was there: whoever created it may have died before this.
        self.sync_folder(path)?;
        Ok(is_new)
    }

    fn temporary(&self, number: u64) -> PathBuf {
        self.temporary.join(format!("{}-{number}", std::process::id()))
    }

    /// Makes the folder of a file durable, with all above it up to ours: a writer
    /// that made some of them may have died before they were.
    fn prepare_folder(&self, path: &Path) -> Result<(), Error> {
        let Some(folder) = path.parent() else { return Ok(()) };
        if self.folders().contains(folder) {
            return Ok(());
        }
        create_dir(folder).map_err(|e| Error::io("create directory", folder, e))?;
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.dir)) {
            sync(above)?;
        }
        self.folders().insert(folder.to_owned());
        Ok(())
    }

    fn folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync_folder(&self, path: &Path) -> Result<(), Error> {
        path.parent().map_or(Ok(()), sync)
    }
}

fn sync(folder: &Path) -> Result<(), Error> {
    DirSync::new(folder.to_owned()).sync().map_err(|e| Error::io("sync", folder, e))
}

/// Removes a temporary name when the write is over, however it ended.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        if let Err(error) = missing_is_fine(fs::remove_file(self.0)) {
            tracing::debug!(path = %self.0.display(), %error, "leftover not removed");
        }
    }
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file, where it is there.
fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

/// Does something with each name in a folder; nothing where there is no folder.
fn each_name(folder: &Path, mut with: impl FnMut(&str) -> bool) -> Result<(), Error> {
    let failed = |e| Error::io("list", folder, e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        // Our names are UTF-8.
        let is_more = entry.map_err(failed)?.file_name().to_str().is_none_or(&mut with);
        if !is_more {
            break;
        }
    }
    Ok(())
}

fn tail(path: &Path, most: u64) -> Result<Option<Tail>, Error> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut read = || {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        (&file).take(most).read_to_end(&mut bytes)?;
        io::Result::Ok(Tail { bytes: bytes.into(), size })
    };
    read().map(Some).map_err(|e| Error::io("read", path, e))
}

#[async_trait]
impl Blobs for Local {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        let path = self.shared.dir.join(name);
        self.run("write", name, move |shared| shared.create(&path, &bytes)).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.tail(name, u64::MAX).await?.map(|tail| tail.bytes))
    }

    async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error> {
        let path = self.shared.dir.join(name);
        self.run("read", name, move |_| tail(&path, most)).await
    }

    async fn newest(&self, folder: &str) -> Result<Option<i64>, Error> {
        let path = self.shared.dir.join(folder);
        self.run("list", folder, move |_| {
            let mut newest = None;
            each_name(&path, |name| {
                newest = newest.max(names::start_of(name));
                true
            })?;
            if newest.is_some() {
                sync(&path)?;
            }
            Ok(newest)
        })
        .await
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.shared.dir.join(folder);
        self.run("list", folder, move |_| {
            let mut names = Vec::new();
            each_name(&path, |name| {
                names.push(name.to_owned());
                names.len() < MAX_NAMES
            })?;
            Ok(names)
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.shared.dir.join(name);
        let removed = move |_: &Shared| {
            missing_is_fine(fs::remove_file(&path)).map_err(|e| Error::io("remove", &path, e))
        };
        self.run("remove", name, removed).await
    }

    fn place(&self, name: &str) -> String {
        self.shared.dir.join(name).display().to_string()
    }
}
