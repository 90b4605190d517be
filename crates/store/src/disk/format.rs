//! The format of the data directory, and the way from each to the next.
//!
//! `FORMAT` holds the number of the format. A directory of a newer one is
//! refused by name and left as it is. One of an older format is brought to
//! this build's step by step at open, under the store's lock:
//!
//! - [`STEPS`] is the one place where a change of the layout is written down.
//! - A step finds the directory as its number says, or half-way through the
//!   same step: it can be run again. The number is raised after it, durably,
//!   so that a crash anywhere repeats one step at the most.
//! - What a step does is synced when it returns.
//!
//! The coordinator's file has a version and steps of its own; so have the
//! records of payloads, which are never changed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::io::Disk;
use crate::error::{Error, io_error};

/// Format of the data directory that this build writes, and the newest it reads.
pub(super) const FORMAT: u64 = 1;
/// The first there was.
const OLDEST: u64 = 1;
pub(super) const FORMAT_FILE: &str = "FORMAT";
/// There while a restore is not finished.
pub(super) const RESTORING_FILE: &str = "RESTORING";

/// The way to one format from the one before.
pub(super) struct Step {
    pub(super) to: u64,
    pub(super) what: &'static str,
    pub(super) run: fn(&Path, &dyn Disk) -> Result<(), Error>,
}

/// Every step there is, in order: that to format 2 would be the first.
const STEPS: &[Step] = &[];

/// Whether this build can use what is in a directory; an empty one, or none,
/// it can. Changes nothing, and needs no lock.
///
/// # Errors
/// [`Error::FormatNewer`], [`Error::FormatUnreadable`], [`Error::Unfinished`]
/// after a restore that was broken off, [`Error::Io`].
pub fn check_data_format(root: &Path) -> Result<(), Error> {
    found(root, FORMAT).map(|_| ())
}

/// Brings a directory to this build's format, and writes that into a new one.
/// The caller holds the store's lock.
pub(super) fn prepare(root: &Path, disk: &dyn Disk) -> Result<(), Error> {
    upgrade(root, disk, STEPS, FORMAT)
}

fn upgrade(root: &Path, disk: &dyn Disk, steps: &[Step], target: u64) -> Result<(), Error> {
    let Some(found) = found(root, target)? else { return write(root, disk, target) };
    for step in steps.iter().filter(|step| step.to > found && step.to <= target) {
        tracing::info!(
            to = step.to,
            what = step.what,
            "the data directory is brought to a newer format"
        );
        (step.run)(root, disk)?;
        write(root, disk, step.to)?;
    }
    Ok(())
}

/// The format of a directory; `None` where it has none yet.
pub(super) fn found(root: &Path, target: u64) -> Result<Option<u64>, Error> {
    if root.join(RESTORING_FILE).exists() {
        return Err(Error::Unfinished { path: root.to_path_buf() });
    }
    let path = root.join(FORMAT_FILE);
    let unreadable = |path, found| Err(Error::FormatUnreadable { path, found, expected: target });
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u64>() {
            Ok(found) if found > target => {
                Err(Error::FormatNewer { path: root.to_path_buf(), found, supported: target })
            }
            Ok(found) if found >= OLDEST => Ok(Some(found)),
            _ => unreadable(path, text.trim().chars().take(40).collect()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Bytes that are no text.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            unreadable(path, "bytes that are no text".to_owned())
        }
        Err(error) => Err(io_error("read", &path, error)),
    }
}

/// A coordinator may start in the same directory at the same time: a rename is
/// never seen half done.
pub(super) fn write(root: &Path, disk: &dyn Disk, format: u64) -> Result<(), Error> {
    let path = root.join(FORMAT_FILE);
    let new = root.join(format!("{FORMAT_FILE}.{}", std::process::id()));
    fs::write(&new, format!("{format}\n"))
        .and_then(|()| File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| disk.sync_dir(root))
        .map_err(|source| Error::NotWritable { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;
    use crate::error::Error;

    /// Each step moves the one file there is on, and can find it moved already.
    fn rename(root: &Path, from: &str, to: &str) -> Result<(), Error> {
        match fs::rename(root.join(from), root.join(to)) {
            Err(error) if !root.join(to).exists() => Err(io_error("rename", root, error)),
            _ => Ok(()),
        }
    }

    const TWO: Step = Step { to: 2, what: "two", run: |root, _| rename(root, "one", "two") };
    const THREE: Step = Step { to: 3, what: "three", run: |root, _| rename(root, "two", "three") };
    /// The process ends after the work of the step, before its number is written.
    const CRASH: Step = Step {
        to: 3,
        what: "three, cut off",
        run: |root, _| {
            rename(root, "two", "three")?;
            Err(Error::TaskLost)
        },
    };

    fn old() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one"), "data").unwrap();
        fs::write(folder.path().join(FORMAT_FILE), "1\n").unwrap();
        folder
    }

    fn number(root: &Path) -> String {
        fs::read_to_string(root.join(FORMAT_FILE)).unwrap()
    }

    #[test]
    fn steps_are_taken_in_order_and_once() {
        let folder = old();
        let root = folder.path();
        upgrade(root, &LocalDisk, &[TWO, THREE], 3).unwrap();
        assert_eq!((number(root).as_str(), root.join("three").exists()), ("3\n", true));
        upgrade(root, &LocalDisk, &[TWO, THREE], 3).unwrap();
        let error = upgrade(root, &LocalDisk, &[TWO], 2).unwrap_err();
        assert!(matches!(error, Error::FormatNewer { found: 3, supported: 2, .. }), "{error}");
    }

    #[test]
    fn what_a_crash_left_half_way_is_finished_at_the_next_open() {
        let folder = old();
        let root = folder.path();
        upgrade(root, &LocalDisk, &[TWO, CRASH], 3).unwrap_err();
        assert_eq!((number(root).as_str(), root.join("three").exists()), ("2\n", true));
        upgrade(root, &LocalDisk, &[TWO, THREE], 3).unwrap();
        assert_eq!((number(root).as_str(), root.join("three").exists()), ("3\n", true));
    }

    #[test]
    fn steps_are_numbered_without_gaps_up_to_the_format() {
        let numbers: Vec<u64> = STEPS.iter().map(|step| step.to).collect();
        assert_eq!(numbers.len() as u64, FORMAT - OLDEST);
        assert!(numbers.iter().copied().eq(OLDEST + 1..OLDEST + 1 + numbers.len() as u64));
    }

    #[test]
    fn a_restore_that_was_broken_off_is_no_data_directory() {
        let folder = old();
        fs::write(folder.path().join(RESTORING_FILE), "").unwrap();
        for refused in [check_data_format(folder.path()), prepare(folder.path(), &LocalDisk)] {
            assert!(matches!(refused, Err(Error::Unfinished { .. })), "{refused:?}");
        }
    }
}
