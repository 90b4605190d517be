//! Compares what is to be done with what is there, after a start and now and
//! then, and mends what can be mended.
//!
//! Three things can have come apart. The coordinator lost batches that were
//! registered with it (it came back empty, or from a copy): they are registered
//! again, as they were. It does not know that this store has a payload, too, or
//! under which address it is found now: it is told. A payload is gone: that is
//! only said, for the worker that claims the batch settles it as `payload_lost`.

mod compare;
mod restore;

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Coordinator, Error, History};
use sheaf_proto::BatchId;
use sheaf_retry::SharedClock;
use sheaf_store::Store;
use sheaf_worker::CoordinatorOwner;
use tokio::sync::Notify;

use compare::Found;
use restore::Restored;

/// Batches looked at in one go.
const PAGE: usize = 1_000;
/// Names that a warning tells.
const SHOWN: usize = 10;
/// How often they are compared again, at most.
const EVERY: Duration = Duration::from_secs(600);
/// And at least: comparing asks for every live batch.
const SELDOM: Duration = Duration::from_secs(5);
/// How often a coordinator is asked whether it is another one, where nothing
/// else would tell.
const LOOK: Duration = Duration::from_secs(1);
/// After a comparison that failed: the coordinator may be away.
const SOON: Duration = Duration::from_secs(30);

/// What is compared.
pub(super) struct Reconciler {
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) owner: Arc<CoordinatorOwner>,
    pub(super) store: Store,
    /// Addresses of the store; none is the one beside the coordinator.
    pub(super) own: Vec<String>,
    /// The coordinator is in the same server: batches without a location are here.
    pub(super) is_beside: bool,
    /// The coordinator may lose its state under our connection, without a word.
    pub(super) is_watched: bool,
    pub(super) clock: SharedClock,
    /// How long what is not marked as registered is kept.
    pub(super) ttl: Duration,
    /// The coordinator may be another one than before.
    pub(super) reconnected: Arc<Notify>,
}

impl Reconciler {
    /// Compares, mends and tells it in the log, from time to time, without end.
    pub(super) async fn run(self) {
        // What was registered past this server is marked well before it expires.
        let every = (self.ttl / 2).clamp(SELDOM, EVERY);
        let mut before = Found::default();
        let (mut is_first, mut refusals) = (true, 0);
        loop {
            let known = self.owner.history().await.unwrap_or_default();
            let pause = match self.once().await {
                Ok((restored, found)) => {
                    restored.tell();
                    if is_first || found != before {
                        found.tell();
                    }
                    (is_first, before) = (false, found);
                    refusals = if restored.refused > 0 { refusals + 1 } else { 0 };
                    // What is refused again and again is asked ever more seldom.
                    match refusals {
                        0 => every,
                        again => SOON.saturating_mul(1 << (again - 1).min(6)).min(every.max(SOON)),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "batches and payloads could not be compared");
                    SOON
                }
            };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.replaced(known) => {}
            }
        }
    }

    /// Returns when the coordinator is another one than this was, or has less.
    async fn replaced(&self, mut before: History) {
        loop {
            tokio::select! {
                () = self.reconnected.notified() => {}
                () = self.clock.sleep(LOOK), if self.is_watched => {}
            }
            match self.owner.history().await {
                Ok(history) if goes_on(&history, &before) => before = history,
                Ok(_) => return,
                // Asked again when it is there: by then it may be another one.
                Err(_) => {
                    self.clock.sleep(SELDOM).await;
                    self.reconnected.notify_one();
                }
            }
        }
    }

    async fn once(&self) -> Result<(Restored, Found), Error> {
        let restored = self.restore().await?;
        Ok((restored, self.compare().await?))
    }
}

/// Whether it is the same run and nothing was taken back: what was emptied
/// counts from the beginning again.
fn goes_on(now: &History, before: &History) -> bool {
    let end = |history: &History| history.runs.last().map_or(0, |run| run.end);
    now.run() == before.run() && end(now) >= end(before)
}

/// Remembers the first few.
fn name(names: &mut Vec<String>, id: &BatchId) {
    if names.len() < SHOWN {
        names.push(id.to_string());
    }
}

#[cfg(test)]
mod tests;
