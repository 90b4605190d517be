//! From a backup to a data directory.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use sheaf_store::NewDataDirectory;

use super::error::Error;
use super::list::{Line, each, sum};
use super::manifest::Manifest;
use super::verify::verify;

/// Makes a data directory of a backup; what it is of. The backup stays as it
/// is. Nothing is written before all of it is known to be good, and no server
/// opens the directory before all of it is there. Blocks.
///
/// # Errors
/// What [`verify`] finds; [`Error::Store`] for a directory that is in use or
/// not empty; [`Error::Io`].
pub fn restore(backup: &Path, data_dir: &Path) -> Result<Manifest, Error> {
    NewDataDirectory::check(data_dir)?;
    let manifest = verify(backup)?;
    let new = NewDataDirectory::create(data_dir)?;
    each(backup, |line| copy(backup, &new, line))?;
    new.finish()?;
    Ok(manifest)
}

fn copy(backup: &Path, new: &NewDataDirectory, line: &Line) -> Result<(), Error> {
    let (from, to) = (backup.join(&line.name), new.path(&line.name)?);
    let mut file = File::create_new(&to).map_err(Error::io("create", &to))?;
    let copied =
        sum(&from, &line.name, |bytes| file.write_all(bytes).map_err(Error::io("write", &to)))?;
    if copied != *line {
        return Err(Error::damaged(&from, "it changed while it was restored"));
    }
    file.sync_all().map_err(Error::io("sync", &to))
}
