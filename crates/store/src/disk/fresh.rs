//! A data directory that is filled from outside, as by a restore.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::directory::{self, BATCHES};
use super::format::{self, RESTORING_FILE};
use super::io::{Disk as _, LocalDisk};
use crate::error::{Error, io_error};

/// A new data directory, locked against servers until it is complete.
///
/// From the first file to the last there is a file `RESTORING` in it: nobody
/// opens it as a data directory, not even after a crash. Dropped unfinished it
/// stays like that. Everything blocks.
#[derive(Debug)]
pub struct NewDataDirectory {
    root: PathBuf,
    _lock: File,
}

impl NewDataDirectory {
    /// Whether there is none yet, or an empty one; changes nothing.
    ///
    /// # Errors
    /// [`Error::DirectoryLocked`] where a server has it; [`Error::NotEmpty`];
    /// [`Error::Unfinished`] after a restore that was broken off.
    pub fn check(root: &Path) -> Result<(), Error> {
        let mut entries = match fs::read_dir(root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(|error| io_error("read", root, error))?,
        };
        if entries.next().is_none() {
            return Ok(());
        }
        if root.join("store.lock").exists() {
            directory::lock(root)?;
        }
        let path = root.to_path_buf();
        match root.join(RESTORING_FILE).exists() {
            true => Err(Error::Unfinished { path }),
            false => Err(Error::NotEmpty { path }),
        }
    }

    /// Makes the directory, or takes one that is there and empty.
    ///
    /// # Errors
    /// As [`NewDataDirectory::check`]; [`Error::NotWritable`].
    pub fn create(root: &Path) -> Result<Self, Error> {
        let refused = |source| Error::NotWritable { path: root.to_path_buf(), source };
        Self::check(root)?;
        directory::create_durably(root, &LocalDisk).map_err(refused)?;
        let lock = directory::lock(root)?;
        File::create(root.join(RESTORING_FILE))
            .and_then(|file| file.sync_all())
            .and_then(|()| LocalDisk.sync_dir(root))
            .map_err(refused)?;
        Ok(NewDataDirectory { root: root.to_path_buf(), _lock: lock })
    }

    /// Where a file of this name goes; its directory is there.
    ///
    /// # Errors
    /// [`Error::NotWritable`].
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|source| Error::NotWritable { path: parent.to_path_buf(), source })?;
        }
        Ok(path)
    }

    /// Makes it a data directory. The files in it were synced by whoever wrote
    /// them; their names are here.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        let sync =
            |path: &Path| LocalDisk.sync_dir(path).map_err(|error| io_error("sync", path, error));
        let batches = self.root.join(BATCHES);
        if batches.is_dir() {
            let entries =
                fs::read_dir(&batches).map_err(|error| io_error("read", &batches, error))?;
            for entry in entries {
                sync(&entry.map_err(|error| io_error("read", &batches, error))?.path())?;
            }
            sync(&batches)?;
        }
        format::write(&self.root, &LocalDisk, format::FORMAT)?;
        let marker = self.root.join(RESTORING_FILE);
        fs::remove_file(&marker).map_err(|error| io_error("remove", &marker, error))?;
        sync(&self.root)
    }
}
