//! A disk that forgets what was not flushed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_raft::types::{Entry, LogId, SnapshotMeta, Vote};

use crate::time::pass;

/// The bugs that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Entries are said to be flushed and are not.
    SkipFsync,
    /// Entries are said to be flushed before they are.
    AcknowledgeBeforeFlush,
    /// Whoever asks whether it could be elected is told that it could.
    GrantPreVote,
    /// A frame of a stream is lost, and the next ones arrive.
    DropFrame,
    /// A leader that stood still reads under the lease it had before.
    LeaseReadAfterPause,
}

/// A log, as it is in memory or on disk.
#[derive(Clone, Default)]
pub(crate) struct LogData {
    pub(crate) vote: Option<Vote>,
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

impl LogData {
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }
}

/// A snapshot on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: Bytes,
}

/// What a node has, and keeps when it crashes.
pub(crate) struct Disk {
    incarnation: u64,
    bug: Option<Bug>,
    state: Mutex<State>,
}

pub(crate) struct State {
    /// What the node reads.
    pub(crate) written: LogData,
    /// What is left of it after a crash.
    pub(crate) flushed: LogData,
    pub(crate) snapshot: Option<Stored>,
    /// What was received of a snapshot.
    pub(crate) partial: Option<(u64, Vec<u8>)>,
    /// Counts crashes: whoever is of another count is dead.
    epoch: u64,
    random: StdRng,
}

impl Disk {
    pub(crate) fn new(seed: u64, incarnation: u64, bug: Option<Bug>) -> Self {
        let state = State {
            written: LogData::default(),
            flushed: LogData::default(),
            snapshot: None,
            partial: None,
            epoch: 0,
            random: StdRng::seed_from_u64(seed),
        };
        Disk { incarnation: incarnation.max(1), bug, state: Mutex::new(state) }
    }

    /// Tells its log from that of every other disk.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn bug(&self) -> Option<Bug> {
        self.bug
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.locked().epoch
    }

    /// The disk, to whoever has not crashed.
    pub(crate) fn open(&self, epoch: u64) -> io::Result<MutexGuard<'_, State>> {
        let state = self.locked();
        if state.epoch == epoch {
            return Ok(state);
        }
        Err(io::Error::other("the node has crashed"))
    }

    /// Waits as long as a write takes.
    pub(crate) async fn takes_time(&self) {
        let micros = self.locked().random.random_range(50..3_000);
        pass(Duration::from_micros(micros)).await;
    }

    /// Everything that was written is on disk; `vote_only` with a disk that skips it.
    pub(crate) async fn flush(&self, epoch: u64) -> io::Result<()> {
        self.takes_time().await;
        let mut state = self.open(epoch)?;
        if self.bug != Some(Bug::SkipFsync) {
            state.flushed = state.written.clone();
        }
        Ok(())
    }

    /// The node crashes: what was not flushed is gone, or some of it is, from the end.
    pub(crate) fn crash(&self) {
        let mut state = self.locked();
        state.epoch += 1;
        let mut left = state.flushed.clone();
        let next = left.last().map_or(0, |last| last.index + 1);
        let unflushed: Vec<Entry> =
            state.written.entries.range(next..).map(|(_, e)| e.clone()).collect();
        let same =
            |at: &LogId| state.written.entries.get(&at.index).is_some_and(|e| e.log_id == *at);
        let follows = left.last().as_ref().is_none_or(same);
        let kept = if unflushed.is_empty() || !follows || state.random.random_bool(0.6) {
            0
        } else {
            state.random.random_range(0..=unflushed.len())
        };
        left.entries.extend(unflushed.into_iter().take(kept).map(|e| (e.log_id.index, e)));
        state.flushed = left.clone();
        state.written = left;
        state.partial = None;
    }
}
