//! Where a backup is written: beside its name until it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use sheaf_store::REGISTERED_FILE;

use super::COORDINATOR_FILE;
use super::error::Error;
use super::list::{LIST_FILE, each};
use super::manifest::MANIFEST_FILE;

/// `NAME.partial`, held by this process. Dropped, it stays as it is: the next
/// backup of that name begins anew.
pub(crate) struct Place {
    name: PathBuf,
    partial: PathBuf,
    _lock: File,
}

impl Place {
    /// # Errors
    /// [`Error::Exists`] where the name is taken; [`Error::Busy`] while
    /// another process writes it; [`Error::Io`].
    pub(crate) fn open(name: &Path) -> Result<Self, Error> {
        if name.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: name.to_path_buf() });
        }
        let mut partial = name.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        fs::create_dir_all(&partial).map_err(Error::io("create", &partial))?;
        let lock = File::open(&partial).map_err(Error::io("open", &partial))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy { path: partial }),
            Err(error) => return Err(Error::io("lock", &partial)(error.into())),
        }
        // Of a backup of that name that was broken off, and of nothing else.
        for left in [MANIFEST_FILE, LIST_FILE, COORDINATOR_FILE, REGISTERED_FILE] {
            match fs::remove_file(partial.join(left)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove what is left in", &partial)(error));
                }
                _ => {}
            }
        }
        let batches = partial.join("batches");
        if batches.exists() {
            fs::remove_dir_all(&batches).map_err(Error::io("remove", &batches))?;
        }
        Ok(Place { name: name.to_path_buf(), partial, _lock: lock })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.partial
    }

    /// Makes everything durable, and gives it its name. Blocks.
    pub(crate) fn keep(self) -> Result<(), Error> {
        let sync = |path: &Path| {
            File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
        };
        each(&self.partial, |line| sync(&self.partial.join(&line.name)))?;
        let batches = self.partial.join("batches");
        if batches.is_dir() {
            for entry in fs::read_dir(&batches).map_err(Error::io("read", &batches))? {
                sync(&entry.map_err(Error::io("read", &batches))?.path())?;
            }
            sync(&batches)?;
        }
        for file in [LIST_FILE, MANIFEST_FILE] {
            sync(&self.partial.join(file))?;
        }
        sync(&self.partial)?;
        if self.name.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: self.name });
        }
        fs::rename(&self.partial, &self.name).map_err(Error::io("rename", &self.partial))?;
        let parent = self.name.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))
    }
}
