//! The leases that a component holds, and the beat that keeps them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_coordinator::{Fence, LeaseRef};
use sheaf_proto::BatchId;

use super::link::Link;

/// How long a batch is held without a beat. A reader that is started again does not wait for
/// it: it gives back what was held in its place.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// Leases that are extended in one call.
const AT_ONCE: usize = 1_000;

/// Everything that is held.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<BatchId, Fence>>);

impl Leases {
    fn held(&self) -> MutexGuard<'_, HashMap<BatchId, Fence>> {
        // No code below panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, lease: &LeaseRef) {
        self.held().insert(lease.id.clone(), lease.fence);
    }

    /// It is over, or not ours any more.
    pub(super) fn remove(&self, lease: &LeaseRef) {
        let mut held = self.held();
        if held.get(&lease.id) == Some(&lease.fence) {
            held.remove(&lease.id);
        }
    }

    pub(super) fn has(&self, lease: &LeaseRef) -> bool {
        self.held().get(&lease.id) == Some(&lease.fence)
    }

    pub(super) fn all(&self) -> Vec<LeaseRef> {
        let held = self.held();
        held.iter().map(|(id, fence)| LeaseRef { id: id.clone(), fence: *fence }).collect()
    }
}

/// Keeps the leases, until one of them is lost.
pub(crate) async fn beat(link: Arc<Link>) {
    loop {
        link.clock.sleep(LEASE / 3).await;
        for some in link.leases.all().chunks(AT_ONCE) {
            if let Err(error) = link.extend(some).await {
                return link.fate.fail(error);
            }
        }
    }
}
