//! The log, in memory, and in a file that is synced before an entry counts where there is
//! one. Nobody reads the file: no node of a bench starts again.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::OptionalSend;
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::TypeConfig;

#[derive(Clone)]
pub struct Log(Arc<Mutex<Inner>>);

struct Inner {
    vote: Option<VoteOf<TypeConfig>>,
    /// From index 0 on; nothing is purged.
    entries: Vec<EntryOf<TypeConfig>>,
    file: Option<File>,
}

impl Log {
    pub fn open(path: Option<&str>) -> io::Result<Self> {
        let file = path.map(File::create_new).transpose()?;
        Ok(Log(Arc::new(Mutex::new(Inner { vote: None, entries: Vec::new(), file }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let inner = self.lock();
        let start = match range.start_bound() {
            Bound::Included(start) => place(*start),
            Bound::Excluded(start) => place(start + 1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => place(end + 1),
            Bound::Excluded(end) => place(*end),
            Bound::Unbounded => inner.entries.len(),
        };
        Ok(inner.entries.get(start..end.min(inner.entries.len())).unwrap_or_default().to_vec())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        Ok(self.lock().vote.clone())
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_log_id = self.lock().entries.last().map(|entry| entry.log_id());
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> io::Result<()> {
        let mut inner = self.lock();
        inner.write(&encoded(vote)?)?;
        inner.vote = Some(vote.clone());
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut inner = self.lock();
            let mut bytes = Vec::new();
            for entry in entries {
                if inner.file.is_some() {
                    bytes.extend(encoded(&entry)?);
                }
                inner.entries.push(entry);
            }
            inner.write(&bytes)?;
        }
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        let kept = last.map_or(0, |last| place(last.index() + 1));
        self.lock().entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, _: LogIdOf<TypeConfig>) -> io::Result<()> {
        Ok(())
    }
}

fn encoded<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}
