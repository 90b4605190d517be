//! Keeps the log of a node small where its entries are large: the engine counts entries alone.

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver as _;

use super::{Driver, RaftNode};
use crate::replica::Replica as _;

/// Bytes of entries between two snapshots, whatever their number: a log has about twice as many,
/// as the older of the two snapshots that are kept needs the entries behind it.
pub const LOG_BYTES: u64 = 512 << 20;

/// The last entries of the snapshots that are kept. Entries up to the older one are of no use to
/// either.
#[derive(Default)]
struct Kept {
    older: Option<u64>,
    newest: Option<u64>,
}

impl Kept {
    fn see(&mut self, newest: Option<u64>) {
        if newest > self.newest {
            self.older = std::mem::replace(&mut self.newest, newest);
        }
    }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Takes a snapshot whenever the log has grown by so many bytes, and lets go of what the one
    /// before the newest has, also where the new one takes longer than anybody waits for it;
    /// returns when the node has stopped. `bytes` is called once at first, then as entries are
    /// applied. [`RaftServer`](super::RaftServer) does this with [`LOG_BYTES`].
    pub async fn keep_log_small(self, bytes: impl Fn() -> u64 + Send, growth: u64) {
        let mut applied = self.applied();
        let mut leadership = self.leadership();
        let (mut next, mut kept) = (growth, Kept::default());
        bytes();
        loop {
            tokio::select! {
                stopped = leadership.wait_for(|seen| seen.stopped.is_some()) => {
                    drop(stopped);
                    return;
                }
                changed = applied.changed() => if changed.is_err() { return },
            }
            kept.see(self.newest_snapshot());
            if bytes() < next {
                continue;
            }
            if let Err(error) = self.snapshot().await {
                tracing::warn!(target: "raft", node = self.id(), %error, "the log stays large");
            }
            kept.see(self.newest_snapshot());
            if let Some(older) = kept.older {
                self.let_go(older).await;
            }
            next = bytes().saturating_add(growth);
        }
    }

    fn newest_snapshot(&self) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.snapshot.map(|last| last.index)
    }

    /// Purges entries up to one that a snapshot has, and waits until that is done.
    async fn let_go(&self, upto: u64) {
        // A node that has stopped says so elsewhere.
        if self.inner.raft.trigger().purge_log(upto).await.is_err() {
            return;
        }
        let mut metrics = self.inner.raft.metrics();
        let done = async {
            let is_done = |purged: Option<u64>| purged.is_some_and(|purged| purged >= upto);
            while !is_done(metrics.borrow_and_update().purged.map(|id| id.index)) {
                if metrics.changed().await.is_err() {
                    break;
                }
            }
        };
        // What is being sent to a follower is let go of later.
        drop(R::timeout(self.inner.config.election_timeout(), done).await);
    }
}
