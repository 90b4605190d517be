//! How far a send is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what sends have done so far, to be looked at from elsewhere.
///
/// Give it to [`ExchangeClient::with_progress`](super::ExchangeClient::with_progress);
/// sends of that client count here. Cheap to clone; clones are the same counters.
/// It keeps a few numbers, and a few for each worker that was sent to.
///
/// ```
/// use sheaf_exchange::shuffle::Progress;
///
/// let progress = Progress::default();
/// let far = progress.look();
/// assert_eq!((far.rows_in, far.committed, far.partitions), (0, 0, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    rows_in: AtomicU64,
    rows_sealed: AtomicU64,
    partitions: AtomicU64,
    committed: AtomicU64,
    peers: Mutex<BTreeMap<String, PeerProgress>>,
}

/// How far sends were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HowFar {
    /// Rows that were taken from the caller.
    pub rows_in: u64,
    /// Rows in chunks that are ready to be sent; with broadcast, once for each
    /// partition.
    pub rows_sealed: u64,
    /// Bytes of chunks that went out, again included.
    pub bytes_sent: u64,
    /// Bytes of chunks that workers have taken.
    pub bytes_taken: u64,
    /// Partitions that were committed.
    pub committed: u64,
    /// Partitions in all.
    pub partitions: u64,
    /// The same for each worker, by its URI.
    pub peers: BTreeMap<String, PeerProgress>,
}

/// How far sends to one worker are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerProgress {
    /// Bytes of chunks that went out, again included.
    pub bytes_sent: u64,
    /// Bytes of chunks that it has taken.
    pub bytes_taken: u64,
    /// Calls made again after a failure.
    pub retries: u64,
}

impl Progress {
    /// How far it is now.
    pub fn look(&self) -> HowFar {
        let Counters { rows_in, rows_sealed, partitions, committed, .. } = &*self.counters;
        let peers = self.peers(|peers| peers.clone());
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HowFar {
            rows_in: number(rows_in),
            rows_sealed: number(rows_sealed),
            bytes_sent: peers.values().map(|peer| peer.bytes_sent).sum(),
            bytes_taken: peers.values().map(|peer| peer.bytes_taken).sum(),
            committed: number(committed),
            partitions: number(partitions),
            peers,
        }
    }

    pub(super) fn begun(&self, partitions: usize) {
        self.counters.partitions.fetch_add(partitions as u64, Ordering::Relaxed);
    }

    pub(super) fn rows_in(&self, rows: usize) {
        self.counters.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn sealed(&self, rows: u64) {
        self.counters.rows_sealed.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn committed(&self) {
        self.counters.committed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, peer: &str, bytes: usize) {
        self.of_peer(peer, |peer| peer.bytes_sent += bytes as u64);
    }

    pub(super) fn taken(&self, peer: &str, bytes: usize) {
        self.of_peer(peer, |peer| peer.bytes_taken += bytes as u64);
    }

    pub(super) fn retried(&self, peer: &str) {
        self.of_peer(peer, |peer| peer.retries += 1);
    }

    fn of_peer(&self, peer: &str, change: impl FnOnce(&mut PeerProgress)) {
        self.peers(|peers| match peers.get_mut(peer) {
            Some(known) => change(known),
            None => change(peers.entry(peer.to_owned()).or_default()),
        });
    }

    fn peers<T>(&self, with: impl FnOnce(&mut BTreeMap<String, PeerProgress>) -> T) -> T {
        // Numbers only: a panic elsewhere leaves them whole.
        with(&mut self.counters.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
