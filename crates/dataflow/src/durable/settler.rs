//! Completes batches that a loop is done with, without holding it up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_coordinator::LeaseRef;
use tokio::sync::Notify;

use super::journal;
use super::link::Link;
use crate::error::ComponentError;

/// What is to be completed. Bounded by what is held.
#[derive(Default)]
struct Due {
    leases: Vec<LeaseRef>,
    /// Some are under way.
    is_busy: bool,
}

/// See the module.
pub(crate) struct Settler {
    link: Arc<Link>,
    due: Mutex<Due>,
    more: Notify,
    idle: Notify,
}

impl Settler {
    pub(crate) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Settler { link, due: Mutex::default(), more: Notify::new(), idle: Notify::new() })
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        // No code below panics between two changes that belong together.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one is done with.
    pub(crate) fn complete(&self, lease: LeaseRef) {
        self.due().leases.push(lease);
        self.more.notify_one();
    }

    /// Completes what is due, without end.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let leases = {
                let mut due = self.due();
                due.is_busy = !due.leases.is_empty();
                std::mem::take(&mut due.leases)
            };
            if leases.is_empty() {
                self.idle.notify_waiters();
                self.more.notified().await;
                continue;
            }
            if let Err(error) = self.link.complete(leases).await {
                return self.link.fate.fail(error);
            }
        }
    }

    /// Waits until all that was due is completed.
    pub(crate) async fn settled(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            {
                let due = self.due();
                if due.leases.is_empty() && !due.is_busy {
                    return;
                }
            }
            idle.await;
        }
    }

    /// Everything is done with: completes the ends of the streams, and notes in the journal
    /// that this run needs nothing more here.
    pub(crate) async fn finish(&self, ends: Vec<LeaseRef>) -> Result<(), ComponentError> {
        self.settled().await;
        journal::finish(&self.link, ends, Vec::new()).await
    }
}
