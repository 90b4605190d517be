//! A snapshot that another node sends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::write::discard;
use super::{Error, SnapshotFile, SnapshotId, Snapshots};

/// What was received of one.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) id: SnapshotId,
    pub(super) received: u64,
    path: PathBuf,
    file: File,
    is_finished: bool,
}

impl Partial {
    pub(super) fn create(path: PathBuf, id: SnapshotId) -> Result<Partial, Error> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        Ok(Partial { id, received: 0, path, file, is_finished: false })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            discard(&self.path);
        }
    }
}

/// Receives a snapshot in chunks, one behind the other.
///
/// Dropped before its end, what it has stays until the same snapshot is received
/// again, or another one, or the node ends. Its calls wait for the disk.
#[derive(Debug)]
pub struct IncomingSnapshot {
    snapshots: Snapshots,
    partial: Option<Partial>,
}

impl IncomingSnapshot {
    pub(super) fn new(snapshots: Snapshots, partial: Partial) -> IncomingSnapshot {
        IncomingSnapshot { snapshots, partial: Some(partial) }
    }

    /// Bytes that are there: the next chunk begins here.
    pub fn received(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.received)
    }

    /// Takes the chunk that begins at byte `at` of the snapshot.
    ///
    /// # Errors
    /// `OutOfOrder` where it does not begin where the last one ended, `TooLarge`
    /// where it goes beyond the end, and those of the system. What was received
    /// before stays.
    pub fn write(&mut self, at: u64, chunk: &[u8]) -> Result<(), Error> {
        let Some(partial) = &mut self.partial else { return Err(Error::Superseded) };
        if at != partial.received {
            return Err(Error::OutOfOrder { expected: partial.received, actual: at });
        }
        let end = at + chunk.len() as u64;
        if end > partial.id.bytes {
            return Err(Error::TooLarge { actual: end, limit: partial.id.bytes });
        }
        partial.file.write_all_at(chunk, at).map_err(Error::io("write", &partial.path))?;
        partial.received = end;
        Ok(())
    }

    /// Checks that it is whole and what was announced, and has it on disk. It
    /// becomes a snapshot of this node when the engine installs it.
    ///
    /// # Errors
    /// `NotAsAnnounced` and those of opening a snapshot: it is then received anew
    /// from the begin.
    pub fn finish(mut self) -> Result<SnapshotFile, Error> {
        let Some(mut partial) = self.partial.take() else { return Err(Error::Superseded) };
        let id = partial.id;
        let differs =
            |problem: String| Error::NotAsAnnounced { announced: id.to_string(), problem };
        if partial.received != id.bytes {
            let problem = format!("it has {} bytes", partial.received);
            self.partial = Some(partial);
            return Err(differs(problem));
        }
        partial.file.sync_all().map_err(Error::io("sync", &partial.path))?;
        // From here on the file is removed by whoever checks or holds it.
        partial.is_finished = true;
        let file = self.snapshots.check_file(&partial.path)?;
        if file.id() != id {
            return Err(differs(format!("it is {}", file.id())));
        }
        Ok(file)
    }
}

impl Drop for IncomingSnapshot {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.snapshots.keep_partial(partial);
        }
    }
}
