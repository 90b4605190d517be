//! What a run must not forget and nobody else may know: a file for its owner only.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::node::StoreRecord;
use crate::process::{read, write_private};

/// The name of the file.
pub(super) const RUN_FILE: &str = "run.json";
/// What the lock of a folder says whose holder clears up, and lets go of it soon.
const CLEARING: &str = "clearing up\n";
/// The version of the file.
const VERSION: u32 = 1;

/// The tokens of a run, and how often each place was started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunSecrets {
    pub(super) version: u32,
    pub(super) run: u64,
    /// Which pass over the data this is, see [`Assignment::pass`](sheaf_dataflow::Assignment).
    #[serde(default)]
    pub(super) pass: u64,
    /// All components have come to their end: the next run is another pass.
    #[serde(default)]
    pub(super) complete: bool,
    /// The name of the file, for messages.
    pub(super) file: String,
    /// By place.
    pub(super) tokens: BTreeMap<String, String>,
    pub(super) data_token: String,
    /// The last attempt, by place; it goes on from one run to the next.
    pub(super) attempts: BTreeMap<String, u64>,
    /// Where batches of durable edges wait; there where an edge is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<StoreRecord>,
    /// Attempts that were told to end so that another one can be started, by place. Without
    /// it, a later control plane would take such an end for one that came by itself.
    #[serde(default)]
    pub(super) handed: BTreeMap<String, u64>,
}

/// The folder of a pipeline, held against others.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closed alone it would stay held for as long as a process that is being started just
        // now has a copy of it.
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(folder = %self.path.display(), %error, "it is let go of late");
        }
    }
}

/// The folder of a pipeline, held against runs of it for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    _folder: Folder,
}

impl Hold {
    /// Takes it, as a run does; `None` while another process has it. `root` is the folder of
    /// all pipelines.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(root: &Path, pipeline: &str) -> io::Result<Option<Self>> {
        let Some(folder) = Folder::take(root, pipeline)? else { return Ok(None) };
        std::fs::write(folder.path.join("lock"), CLEARING)?;
        Ok(Some(Hold { _folder: folder }))
    }
}

impl Folder {
    /// Takes it; `None` while another process has it.
    pub(super) fn take(root: &Path, pipeline: &str) -> io::Result<Option<Self>> {
        let path = root.join(pipeline);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                lock.set_len(0)?;
                Ok(Some(Folder { path, lock }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether its holder clears up after a run that was killed: then it is free soon.
    pub(super) fn is_cleared(root: &Path, pipeline: &str) -> bool {
        let said = std::fs::read_to_string(root.join(pipeline).join("lock"));
        said.is_ok_and(|said| said == CLEARING)
    }

    /// Where an instance keeps what outlives it.
    pub(super) fn state_of(&self, instance: &str) -> PathBuf {
        self.path.join("state").join(instance)
    }

    pub(super) fn create_state(&self, instance: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.state_of(instance))
    }

    /// Forgets what instances keep: the next run begins at the beginning.
    pub(super) fn forget_state(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path.join("state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What the store of durable edges keeps, where it is a process of the runs.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Forgets that too.
    pub(super) fn forget_store(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.store()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Forgets what one instance keeps: it is not there any more.
    pub(super) fn forget_state_of(&self, instance: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.state_of(instance)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn secrets(&self) -> PathBuf {
        self.path.join(RUN_FILE)
    }

    /// Those of the last run; `None` where there was none, or by another version.
    pub(super) fn read(&self) -> io::Result<Option<RunSecrets>> {
        let found: Option<RunSecrets> = read(&self.secrets())?;
        Ok(found.filter(|found| found.version == VERSION))
    }

    pub(super) fn write(&self, secrets: &RunSecrets) -> io::Result<()> {
        let secrets = RunSecrets { version: VERSION, ..secrets.clone() };
        write_private(&self.secrets(), &serde_json::to_vec(&secrets)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_at_once_whoever_has_a_copy_of_itslock() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::take(root.path(), "p").unwrap().unwrap();
        // As between the fork and the exec of any process that is started meanwhile.
        let copy = first.lock.try_clone().unwrap();
        drop(first);
        assert!(Folder::take(root.path(), "p").unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_folder_has_one_holder_and_keeps_what_it_was_given() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::take(root.path(), "p").unwrap().unwrap();
        assert!(Folder::take(root.path(), "p").unwrap().is_none());
        assert!(Folder::take(root.path(), "q").unwrap().is_some());
        let secrets = RunSecrets { run: 7, data_token: "d".to_owned(), ..RunSecrets::default() };
        first.write(&secrets).unwrap();
        first.create_state("a").unwrap();
        drop(first);
        let hold = Hold::take(root.path(), "p").unwrap().unwrap();
        assert!(Folder::is_cleared(root.path(), "p"));
        drop(hold);
        let second = Folder::take(root.path(), "p").unwrap().unwrap();
        assert!(!Folder::is_cleared(root.path(), "p"));
        let found = second.read().unwrap().unwrap();
        assert_eq!((found.run, &*found.data_token), (7, "d"));
        assert!(second.state_of("a").is_dir());
        second.forget_state().unwrap();
        second.forget_state().unwrap();
        assert!(!second.state_of("a").exists());
    }
}
