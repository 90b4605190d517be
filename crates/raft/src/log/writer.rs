//! Writes what waits, and says when it is on disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sheaf_proto::raft::v1 as proto;
use sheaf_proto::raft::v1::log_record::Record;

use super::Error;
use super::directory::{Directory, sync_directory};
use super::options::{Flush, Options};
use super::state::{Done, Part, Pending, Segment, State};

/// A log, to all who write and read it.
pub(super) struct Shared {
    pub(super) directory: Directory,
    pub(super) options: Options,
    state: Mutex<State>,
    /// Something waits to be written.
    wake: Condvar,
    /// The same, for who drives the log.
    #[cfg(feature = "planted-bugs")]
    pub(super) wanted: tokio::sync::Notify,
    writer: Mutex<Writer>,
}

/// The file that is written.
#[derive(Default)]
pub(super) struct Writer {
    /// Where it begins, and what it is: all in those before is on disk.
    pub(super) current: Option<(u64, PathBuf, Arc<File>)>,
    /// Up to where the files have it.
    written: u64,
    /// Up to where the files were synced.
    pub(super) synced: u64,
}

impl Shared {
    pub(super) fn new(directory: Directory, options: Options, state: State) -> Shared {
        let segment = state.segments.get(&state.segment);
        let writer = Writer {
            current: segment.map(|s| (state.segment, s.path.clone(), s.file.clone())),
            written: state.written,
            synced: state.durable,
        };
        Shared {
            directory,
            options,
            state: Mutex::new(state),
            wake: Condvar::new(),
            #[cfg(feature = "planted-bugs")]
            wanted: tokio::sync::Notify::new(),
            writer: Mutex::new(writer),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, where the log can still be written.
    pub(super) fn writable(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        match &state.failed {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what waits written: by the thread, or here where there is none.
    pub(super) fn flush(&self) {
        match self.options.flush {
            Flush::Thread => self.wake.notify_one(),
            Flush::Inline => self.write_pending(),
            #[cfg(feature = "planted-bugs")]
            Flush::Driven => self.wanted.notify_one(),
        }
    }

    /// Runs in the thread until the log is closed.
    pub(super) fn run(&self) {
        let ran = catch_unwind(AssertUnwindSafe(|| self.write_until_closed()));
        if ran.is_err() {
            // Else who appends would wait for ever.
            let path = self.directory.path.clone();
            let error = Error::io("write", path)(std::io::Error::other("the thread panicked"));
            let late = self.fail(&mut self.state(), error.clone());
            drop_all(Err(error), late);
        }
    }

    fn write_until_closed(&self) {
        loop {
            {
                let mut state = self.state();
                while state.pending.is_empty() && !state.is_closing {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.pending.is_empty() {
                    return;
                }
            }
            self.write_pending();
        }
    }

    /// Lets the thread come to its end.
    pub(super) fn close(&self) {
        self.state().is_closing = true;
        self.wake.notify_one();
    }

    /// Has all on disk, and says so behind it: no damage can pass for a torn
    /// write then.
    pub(super) fn finish(&self) {
        {
            // What failed to be synced once may seem to be, the next time.
            let Ok(mut state) = self.writable() else { return };
            state.pending.is_sync = true;
            state.pending.done.push(Box::new(|_| ()));
        }
        self.write_pending();
        if let Ok(mut state) = self.writable() {
            state.write(Record::Closed(proto::Closed {}), u64::MAX);
            state.pending.is_sync = true;
        }
        self.write_pending();
    }

    pub(super) fn write_pending(&self) {
        let mut writer = self.writer();
        let pending = std::mem::take(&mut self.state().pending);
        if pending.is_empty() {
            return;
        }
        let Pending { parts, done, is_sync, obsolete } = pending;
        let written = writer.write(&self.directory, &self.options, parts, is_sync);
        let written = written.and_then(|made| {
            writer.remove(&self.directory, &obsolete)?;
            Ok(made)
        });
        drop_all(self.settle(&writer, written), done);
    }

    /// Takes over what was written; after a failure nothing more is.
    pub(super) fn settle(
        &self,
        writer: &Writer,
        written: Result<Vec<(u64, Segment)>, Error>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        match written {
            Ok(made) if state.failed.is_none() => {
                state.segments.extend(made);
                state.written = writer.written;
                state.durable = self.options.acknowledged(writer.written, writer.synced);
                let limit = self.options.cache_bytes;
                state.evict(limit);
                Ok(())
            }
            Ok(_) => state.failed.clone().map_or(Ok(()), Err),
            Err(error) => {
                tracing::error!(%error, "the log cannot be written: this node stops");
                let late = self.fail(&mut state, error.clone());
                drop(state);
                drop_all(Err(error.clone()), late);
                Err(error)
            }
        }
    }

    /// Nothing more is written; who waits is to be told.
    pub(super) fn fail(&self, state: &mut State, error: Error) -> Vec<Done> {
        let first = state.failed.get_or_insert(error);
        tracing::debug!(error = %first, path = %self.directory.path.display(), "closed for writing");
        #[cfg(feature = "planted-bugs")]
        self.wanted.notify_one();
        std::mem::take(&mut state.pending).done
    }
}

pub(super) fn drop_all(result: Result<(), Error>, done: Vec<Done>) {
    for done in done {
        done(result.clone());
    }
}

impl Writer {
    /// Writes the parts in order; the segments that it made.
    pub(super) fn write(
        &mut self,
        directory: &Directory,
        options: &Options,
        parts: Vec<Part>,
        is_sync: bool,
    ) -> Result<Vec<(u64, Segment)>, Error> {
        let mut made = Vec::new();
        for part in parts {
            if self.current.as_ref().is_none_or(|(start, ..)| *start != part.segment) {
                // All before is on disk before a segment begins: only the last
                // one may end in a torn write.
                self.sync()?;
                let path = directory.segment(part.segment);
                let file = create(&path)?;
                let segment = Segment {
                    path: path.clone(),
                    file: file.clone(),
                    last_before: part.last_before,
                };
                made.push((part.segment, segment));
                self.current = Some((part.segment, path, file));
                self.append(&part)?;
                self.sync()?;
                sync_directory(&directory.path)
                    .map_err(Error::io("sync", directory.path.clone()))?;
            } else {
                self.append(&part)?;
            }
        }
        if is_sync && !options.skips_sync() {
            self.sync()?;
        }
        Ok(made)
    }

    fn append(&mut self, part: &Part) -> Result<(), Error> {
        let Some((start, path, file)) = &self.current else { return Ok(()) };
        file.write_all_at(&part.bytes, part.offset - start)
            .map_err(Error::io("write", path.clone()))?;
        self.written = part.offset + part.bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let Some((_, path, file)) = &self.current else { return Ok(()) };
        if self.synced == self.written {
            return Ok(());
        }
        file.sync_data().map_err(Error::io("sync", path.clone()))?;
        self.synced = self.written;
        Ok(())
    }

    /// Removes segments, after the record that makes them obsolete is on disk.
    fn remove(&self, directory: &Directory, obsolete: &[PathBuf]) -> Result<(), Error> {
        for path in obsolete {
            std::fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        if !obsolete.is_empty() {
            sync_directory(&directory.path).map_err(Error::io("sync", directory.path.clone()))?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<Arc<File>, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(Error::io("create", path))?;
    Ok(Arc::new(file))
}
