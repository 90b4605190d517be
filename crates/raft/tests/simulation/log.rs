//! The log of a node on a disk of this world.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime as _, OptionalSend};
use openraft_rt_sim::SimRuntime;
use sheaf_raft::types::{Entry, LogId, Types, Vote};

use crate::disk::{Bug, Disk};

type Config = Types<SimRuntime>;

/// Most entries that are read at once.
const MAX_ENTRIES: u64 = 16;

/// A handle to the log of a node that runs.
#[derive(Clone)]
pub(crate) struct SimLog {
    disk: Arc<Disk>,
    epoch: u64,
}

impl SimLog {
    pub(crate) fn open(disk: &Arc<Disk>) -> Self {
        SimLog { disk: Arc::clone(disk), epoch: disk.epoch() }
    }

    /// A change that is on disk when this returns, whatever bug there is with entries.
    async fn change(
        &self,
        change: impl Fn(&mut crate::disk::LogData) + Send,
    ) -> Result<(), io::Error> {
        change(&mut self.disk.open(self.epoch)?.written);
        self.disk.flush(self.epoch).await?;
        change(&mut self.disk.open(self.epoch)?.flushed);
        Ok(())
    }
}

impl RaftLogReader<Config> for SimLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let disk = self.disk.open(self.epoch)?;
        Ok(disk.written.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.disk.open(self.epoch)?.written.vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.try_get_log_entries(from..to.min(from + MAX_ENTRIES)).await
    }
}

impl RaftLogStorage<Config> for SimLog {
    type LogReader = SimLog;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, io::Error> {
        let disk = self.disk.open(self.epoch)?;
        let (last_purged_log_id, last_log_id) = (disk.written.purged, disk.written.last());
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> SimLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.change(move |log| log.vote = Some(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // A hint: it may be lost.
        self.disk.open(self.epoch)?.written.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let disk = self.disk.open(self.epoch)?;
        let last = disk.written.last();
        Ok(disk.written.committed.filter(|committed| Some(*committed) <= last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Config>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut disk = self.disk.open(self.epoch)?;
            let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
            disk.written.entries.extend(entries);
        }
        let (disk, epoch) = (Arc::clone(&self.disk), self.epoch);
        if disk.bug() == Some(Bug::AcknowledgeBeforeFlush) {
            callback.io_completed(Ok(()));
            drop(SimRuntime::spawn(async move {
                // The disk has a lot to do.
                for _ in 0..50 {
                    disk.takes_time().await;
                }
                disk.flush(epoch).await.ok();
            }));
            return Ok(());
        }
        drop(SimRuntime::spawn(async move {
            // Who crashed is not told any more.
            if disk.flush(epoch).await.is_ok() {
                callback.io_completed(Ok(()));
            }
        }));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let next = last.map_or(0, |last| last.index + 1);
        self.change(move |log| drop(log.entries.split_off(&next))).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.change(move |log| {
            log.entries = log.entries.split_off(&(upto.index + 1));
            log.purged = log.purged.max(Some(upto));
        })
        .await
    }
}
