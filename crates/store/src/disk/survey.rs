//! A look at a data directory from outside, which changes nothing in it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::directory::EXTENSION;
use super::format::{self, FORMAT};
use super::registrations::Registrations;
use crate::error::{Error, io_error};

/// Most files that are counted; a look must not take minutes.
const MAX_COUNTED: u64 = 500_000;

/// Who holds the store of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// This process, by what it wrote; `unknown` where it wrote nothing.
    Process(String),
}

/// What is in a data directory, as far as the store is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its format; `None` where no server has used it yet.
    pub format: Option<u64>,
    /// Who has its lock.
    pub holder: Holder,
    /// Its journal of registrations.
    pub registrations: Registrations,
    /// Payload files.
    pub payloads: u64,
    /// Their bytes.
    pub payload_bytes: u64,
    /// Damaged files that were set aside.
    pub quarantined: u64,
    /// Their bytes.
    pub quarantined_bytes: u64,
    /// Whether there are more files than were counted.
    pub partial: bool,
}

impl Survey {
    /// The newest format that this build reads.
    pub const FORMAT: u64 = FORMAT;

    /// Looks at a directory that is there, whether or not a server runs on it.
    /// Reads the names of all files, which takes a second for some 500,000;
    /// more are not counted; and the journal of registrations. For a moment the lock is shared, if nobody has it.
    ///
    /// # Errors
    /// [`Error::FormatNewer`], [`Error::FormatUnreadable`], [`Error::Unfinished`],
    /// [`Error::Io`].
    pub fn of(root: &Path) -> Result<Self, Error> {
        let mut survey = Survey {
            format: format::found(root, FORMAT)?,
            holder: Self::holder(root)?,
            registrations: Registrations::of(root)?,
            payloads: 0,
            payload_bytes: 0,
            quarantined: 0,
            quarantined_bytes: 0,
            partial: false,
        };
        let batches = root.join("batches");
        for shard in entries(&batches)? {
            let name = shard.file_name();
            let aside = name == "quarantine";
            if !aside && name.len() != 2 {
                continue;
            }
            for file in entries(&shard.path())? {
                if survey.payloads + survey.quarantined >= MAX_COUNTED {
                    survey.partial = true;
                    return Ok(survey);
                }
                let path = file.path();
                let payload = path.extension().is_some_and(|found| found == EXTENSION);
                // A file that has gone meanwhile is one less.
                let Ok(found) = file.metadata() else { continue };
                if aside {
                    survey.quarantined += 1;
                    survey.quarantined_bytes += found.len();
                } else if payload {
                    survey.payloads += 1;
                    survey.payload_bytes += found.len();
                }
            }
        }
        Ok(survey)
    }

    /// Who has the lock of the store in this directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn holder(root: &Path) -> Result<Holder, Error> {
        let path = root.join("store.lock");
        let failed = |error| io_error("look at", &path, error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
            Err(error) => return Err(failed(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&file, FlockOperation::Unlock).map_err(|error| failed(error.into()))?;
                Ok(Holder::Nobody)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(&path).map_err(failed)?;
                let pid = pid.trim();
                Ok(Holder::Process(if pid.is_empty() { "unknown" } else { pid }.to_owned()))
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let failed = |error| io_error("read", folder, error);
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        // `FORMAT` beside folders, or a file where a folder should be.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Directory, LocalDisk};

    #[test]
    fn a_look_changes_nothing_and_sees_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let empty = Survey::of(root).unwrap();
        assert_eq!((empty.format, &empty.holder, empty.payloads), (None, &Holder::Nobody, 0));
        assert_eq!(fs::read_dir(root).unwrap().count(), 0, "nothing was made");

        let held = Directory::open(root, &LocalDisk).unwrap();
        fs::write(root.join("batches/00/a.arrow"), [0; 10]).unwrap();
        fs::write(root.join("batches/00/a.pin"), []).unwrap();
        fs::write(root.join("batches/_tmp/1"), [0; 10]).unwrap();
        fs::write(root.join("batches/quarantine/b.arrow"), [0; 7]).unwrap();
        let found = Survey::of(root).unwrap();
        assert_eq!(found.holder, Holder::Process(std::process::id().to_string()));
        assert_eq!((found.payloads, found.payload_bytes), (1, 10));
        assert_eq!((found.quarantined, found.quarantined_bytes), (1, 7));
        assert_eq!((found.format, found.partial), (Some(Survey::FORMAT), false));
        drop(held);
        assert_eq!(Survey::holder(root).unwrap(), Holder::Nobody);
        // The look has left the lock free.
        drop(Directory::open(root, &LocalDisk).unwrap());

        fs::write(root.join("FORMAT"), "99\n").unwrap();
        assert!(matches!(Survey::of(root), Err(Error::FormatNewer { found: 99, .. })));
    }
}
