//! Memory that is written like a file, and then sealed.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::io::Disk;

/// Files without a name: gone when their last descriptor and mapping are.
#[derive(Debug)]
pub(crate) struct AnonymousMemory;

impl Disk for AnonymousMemory {
    /// The path is only what the system's tables of memory show.
    fn create(&self, path: &Path) -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(memfd_create(path, flags)?.into())
    }

    fn sync_file(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// From here on nobody writes to it, makes it shorter or longer, or undoes that.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(file, all)?)
}
