//! The few things that the store asks of a file system.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// The file system below a store. Tests put one here that fails on demand.
///
/// 1. When `sync_file` returns, the bytes written so far survive a crash of
///    the machine.
/// 2. When `sync_dir` returns, so do the names that were created in it,
///    renamed into it or removed from it.
/// 3. Every method may be called from several threads, and blocks.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that is not there yet.
    ///
    /// # Errors
    /// What the system says; so for all methods.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).read(true).create_new(true).open(path)
    }

    /// Appends to a file that was created here.
    ///
    /// # Errors
    /// As [`Disk::create`]. The file may have some of the bytes then.
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// As [`Disk::create`].
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Renames within the file system; what was at `to` is gone.
    ///
    /// # Errors
    /// As [`Disk::create`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As [`Disk::create`].
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As [`Disk::create`].
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {}
