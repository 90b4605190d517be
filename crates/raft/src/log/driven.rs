//! The disk's part of a log, for tests: what is written when, and what a loss of power leaves.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::writer::{Shared, drop_all};
use super::{Error, LogStore};

impl<R> LogStore<R> {
    /// Waits until something is to be written; `false` once nothing is any more. One waits at a
    /// time, and has the log write then.
    ///
    /// Of a log with [`Flush::Driven`](super::Flush::Driven), as are the two steps.
    pub async fn wanted(&self) -> bool {
        self.shared().wanted.notified().await;
        self.failure().is_none()
    }

    /// The first step: what waits goes into the files. A failure is told to those who wait.
    pub fn step_write(&self) {
        self.shared().write_parts();
    }

    /// The second step: all is synced, and those who wait are told.
    pub fn step_sync(&self) {
        self.shared().write_pending();
    }

    /// Leaves in the files what a loss of power at this moment would, closes the log for
    /// writing, and lets go of its directory. `loss` is given the bytes that were written last
    /// and not synced, and makes of them what is found of them: none, some, others.
    ///
    /// # Errors
    /// Those of the system.
    pub fn cut_power(&self, loss: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.shared().cut_power(loss)
    }
}

impl Shared {
    fn write_parts(&self) {
        let mut writer = self.writer();
        let parts = std::mem::take(&mut self.state().pending.parts);
        let written = writer.write(&self.directory, &self.options, parts, false);
        // Whoever waits has been told.
        self.settle(&writer, written).ok();
    }

    fn cut_power(&self, loss: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let closed = || Error::Closed { path: self.directory.path.clone() };
        let late = self.fail(&mut self.state(), closed());
        let writer = self.writer();
        if let Some((start, path, _)) = &writer.current {
            // All in the segments before is on disk.
            let synced = writer.synced.saturating_sub(*start);
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let left = file.metadata()?.len().saturating_sub(synced);
            let mut bytes = vec![0; usize::try_from(left).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, synced)?;
            loss(&mut bytes);
            file.set_len(synced)?;
            file.write_all_at(&bytes, synced)?;
        }
        drop(writer);
        self.directory.release()?;
        drop_all(Err(closed()), late);
        Ok(())
    }
}
