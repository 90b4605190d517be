//! The disk of a node: real files, in a time of this world, of which a crash leaves what was
//! synced, and of the rest what it likes.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_raft::log::{self, Flush, Identity, LogStore, PlantedBug};
use sheaf_raft::snapshot::{self, Snapshots};
use sheaf_raft::types::NodeId;
use tempfile::TempDir;

use crate::observer::Observer;
use crate::time::pass;
use crate::world::CLUSTER;

/// The log of a node.
pub(crate) type Log = LogStore<SimRuntime>;

/// The bugs that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// One of the log.
    Log(PlantedBug),
    /// Whoever asks whether it could be elected is told that it could.
    GrantPreVote,
    /// A frame of a stream is lost, and the next ones arrive.
    DropFrame,
    /// A leader that stood still reads under the lease it had before.
    LeaseReadAfterPause,
}

/// What a node has, and keeps when it crashes.
pub(crate) struct Disk {
    node: NodeId,
    /// In it, a folder by the count of crashes has all there is.
    path: PathBuf,
    incarnation: u64,
    bug: Option<PlantedBug>,
    observer: Arc<Observer>,
    state: Mutex<State>,
}

struct State {
    /// Counts crashes: whoever is of another count is dead.
    epoch: u64,
    /// Of the node that runs.
    log: Option<Log>,
    random: StdRng,
}

/// A folder for all disks of a world: in memory, where the machine has such a place.
pub(crate) fn folder() -> TempDir {
    let mut named = tempfile::Builder::new();
    named.prefix("simulation-");
    named.tempdir_in("/dev/shm").or_else(|_| named.tempdir()).unwrap()
}

impl Disk {
    pub(crate) fn new(
        (node, path): (NodeId, PathBuf),
        (seed, incarnation): (u64, u64),
        bug: Option<Bug>,
        observer: &Arc<Observer>,
    ) -> Self {
        let state = State { epoch: 0, log: None, random: StdRng::seed_from_u64(seed) };
        let bug = match bug {
            Some(Bug::Log(bug)) => Some(bug),
            _ => None,
        };
        let (incarnation, state) = (incarnation.max(1), Mutex::new(state));
        let disk = Disk { node, path, incarnation, bug, observer: Arc::clone(observer), state };
        std::fs::create_dir_all(disk.home(0)).unwrap();
        disk
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self, epoch: u64) -> PathBuf {
        self.path.join(epoch.to_string())
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.locked().epoch
    }

    /// Whether who opened the disk then has not crashed since.
    pub(crate) fn lives(&self, epoch: u64) -> io::Result<()> {
        if self.epoch() == epoch {
            return Ok(());
        }
        Err(io::Error::other("the node has crashed"))
    }

    /// Opens what is there, for a node that starts.
    pub(crate) fn open(self: &Arc<Self>) -> io::Result<(Log, Snapshots)> {
        let home = self.home(self.epoch());
        let identity = Identity { cluster: CLUSTER.to_owned(), node: self.node };
        // Small, so that there are several files, old entries are read from them, and appends
        // wait for each other.
        let options = log::Options {
            segment_bytes: 3_000,
            cache_bytes: 4_000,
            queue_bytes: 8_000,
            read_bytes: 2_000,
            flush: Flush::Driven,
            planted_bug: self.bug,
            incarnation: Some(self.incarnation),
        };
        let log = Log::open(&home.join("log"), &identity, options)?;
        let options = snapshot::Options::default();
        let snapshots = Snapshots::open(&home.join("snapshots"), CLUSTER, options)?;
        self.locked().log = Some(log.clone());
        drop(SimRuntime::spawn(work(Arc::clone(self), log.clone())));
        Ok((log, snapshots))
    }

    /// Waits as long as a step of the disk takes.
    pub(crate) async fn takes_time(&self) {
        let micros = self.locked().random.random_range(25..1_500);
        pass(Duration::from_micros(micros)).await;
    }

    /// The node crashes, and finds what is left in another folder: what it was may go on for a
    /// moment, and reaches nothing of it.
    pub(crate) fn crash(&self) {
        let mut state = self.locked();
        let mut loss = (0, 0);
        if let Some(log) = state.log.take() {
            let random = &mut state.random;
            log.cut_power(|bytes| loss = lose(bytes, random)).unwrap();
        }
        let before = self.home(state.epoch);
        state.epoch += 1;
        std::fs::rename(before, self.home(state.epoch)).unwrap();
        self.observer.crashed(self.node, loss);
    }
}

/// The disk's part of the log of a node that runs.
async fn work(disk: Arc<Disk>, log: Log) {
    while log.wanted().await {
        disk.takes_time().await;
        log.step_write();
        disk.takes_time().await;
        log.step_sync();
    }
}

/// What a loss of power makes of bytes that were written and not synced: all, none, those before
/// some place, or pages of zeros. How many there were, and are left as they were.
fn lose(bytes: &mut Vec<u8>, random: &mut StdRng) -> (usize, usize) {
    let there = bytes.len();
    let (from, to) = (random.random_range(0..=there), random.random_range(0..=there));
    match random.random_range(0..10) {
        0..4 => bytes.clear(),
        4..7 => bytes.truncate(from),
        7 => bytes[from..].fill(0),
        8 => bytes[from.min(to)..from.max(to)].fill(0),
        _ => {}
    }
    (there, bytes.len())
}
