//! A queue of a durable edge: how full it is, and how full it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_coordinator::{CoordinatorExt as _, QueueStats, State};

use super::link::Link;
use crate::error::ComponentError;

/// How often a full queue is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// And at last, where it stays full.
const LOOK_SELDOM: Duration = Duration::from_millis(200);
/// How often the numbers for people are brought up to date.
const FOLLOW: Duration = Duration::from_secs(1);

/// The queue of one instance of a reader.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    /// Batches that may wait in it, of all senders.
    most_batches: u64,
    /// Bytes of batches that are not done with.
    most_bytes: u64,
    /// What is known of it.
    pending: AtomicU64,
    processing: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// How it was when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) processing: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
}

impl Queue {
    pub(crate) fn new(name: String, most_batches: u64, most_bytes: u64) -> Arc<Self> {
        Arc::new(Queue {
            name,
            most_batches: most_batches.max(1),
            most_bytes: most_bytes.max(1),
            pending: AtomicU64::new(0),
            processing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            pending: get(&self.pending),
            processing: get(&self.processing),
            failed: get(&self.failed),
            bytes: get(&self.bytes),
        }
    }

    fn set(&self, counts: Counts) {
        self.pending.store(counts.pending, Ordering::Relaxed);
        self.processing.store(counts.processing, Ordering::Relaxed);
        self.failed.store(counts.failed, Ordering::Relaxed);
        self.bytes.store(counts.bytes, Ordering::Relaxed);
    }

    /// A batch was added.
    pub(super) fn added(&self, bytes: u64) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        let counts = self.counts();
        counts.pending < self.most_batches && counts.bytes < self.most_bytes
    }

    /// Looks, and remembers.
    pub(super) async fn look(&self, link: &Link) -> Result<Counts, ComponentError> {
        let ask = || link.coordinator.stats(Some(&self.name));
        let found = link.insist("ask how full a queue is", ask).await?;
        let found = found.iter().find(|one| one.queue == self.name);
        let counts = found.map(read).unwrap_or_default();
        self.set(counts);
        Ok(counts)
    }

    /// Waits until there is room for one more. What was added since it was looked at counts as
    /// if it were there still, so that the coordinator is asked only now and then.
    pub(super) async fn room(&self, link: &Link) -> Result<(), ComponentError> {
        let mut rest = LOOK;
        while !self.has_room() {
            self.look(link).await?;
            if self.has_room() {
                return Ok(());
            }
            link.clock.sleep(rest).await;
            rest = (rest * 2).min(LOOK_SELDOM);
        }
        Ok(())
    }
}

fn read(stats: &QueueStats) -> Counts {
    let of = |state: State| stats.counts.get(&state).copied().unwrap_or(0);
    Counts {
        pending: of(State::Pending) + of(State::Scheduled) + of(State::Waiting),
        processing: of(State::Processing),
        failed: of(State::Failed),
        bytes: stats.live_bytes,
    }
}

/// Keeps the numbers of these up to date, without end.
pub(crate) async fn follow(link: Arc<Link>, queues: Vec<Arc<Queue>>) {
    loop {
        link.clock.sleep(FOLLOW).await;
        for queue in &queues {
            let before = queue.counts().failed;
            match queue.look(&link).await {
                Ok(now) if now.failed > before => {
                    let (queue, failed) = (&*queue.name, now.failed);
                    tracing::warn!(
                        queue,
                        failed,
                        "batches have failed for good: look at them, and requeue them"
                    );
                }
                Ok(_) => {}
                Err(error) => return link.fate.fail(error),
            }
        }
    }
}
