//! Completes batches that a loop is done with, without holding it up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_coordinator::LeaseRef;
use tokio::sync::Notify;

use super::journal;
use super::link::Link;
use crate::error::ComponentError;

/// Batches that may be written and not completed yet; then the loop waits. A sink that
/// remembers what it has written need not remember more, and what was taken besides.
const MOST: usize = 256;

/// What is to be completed.
#[derive(Default)]
struct Due {
    leases: Vec<LeaseRef>,
    /// How many are under way.
    busy: usize,
}

/// See the module.
pub(crate) struct Settler {
    link: Arc<Link>,
    due: Mutex<Due>,
    more: Notify,
    less: Notify,
}

impl Settler {
    pub(crate) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Settler { link, due: Mutex::default(), more: Notify::new(), less: Notify::new() })
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
                due.busy = due.leases.len();
                std::mem::take(&mut due.leases)
            };
            self.less.notify_waiters();
            if leases.is_empty() {
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
        self.at_most(0).await;
    }

    /// Waits until there is room for one more.
    pub(crate) async fn room(&self) {
        self.at_most(MOST - 1).await;
    }

    async fn at_most(&self, most: usize) {
        loop {
            let mut less = std::pin::pin!(self.less.notified());
            less.as_mut().enable();
            {
                let due = self.due();
                if due.leases.len() + due.busy <= most {
                    return;
                }
            }
            less.await;
        }
    }

    /// Everything is done with: completes the ends of the streams, and notes in the journal
    /// that this run needs nothing more here.
    pub(crate) async fn finish(&self, ends: Vec<LeaseRef>) -> Result<(), ComponentError> {
        self.settled().await;
        journal::finish(&self.link, ends, Vec::new()).await
    }
}
