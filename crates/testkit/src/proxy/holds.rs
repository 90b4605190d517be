//! Requests that are held before the server has them, told by their bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::replies::contains;

/// Faults in force at a time.
const MAX_HOLDS: usize = 64;

/// One fault.
#[derive(Debug)]
pub(super) struct Hold {
    bytes: Vec<u8>,
    hits: AtomicU64,
    ended: watch::Sender<bool>,
}

impl Hold {
    /// Returns when it has ended.
    pub(super) async fn ends(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as this does.
        drop(ended.wait_for(|ended| *ended).await);
    }
}

/// A fault of [`FaultProxy::hold_requests`](crate::FaultProxy::hold_requests),
/// in force until it is dropped.
#[derive(Debug)]
pub struct RequestHold(Arc<Hold>);

impl RequestHold {
    /// How many requests have come to where they are held.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }
}

impl Drop for RequestHold {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
    }
}

/// The faults of a proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<Vec<Arc<Hold>>>>);

impl Holds {
    pub(super) fn add(&self, bytes: Vec<u8>) -> RequestHold {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| !*hold.ended.borrow());
        assert!(holds.len() < MAX_HOLDS, "more than {MAX_HOLDS} holds at a time: end some");
        let (hits, ended) = (AtomicU64::new(0), watch::Sender::new(false));
        let hold = Arc::new(Hold { bytes, hits, ended });
        holds.push(Arc::clone(&hold));
        RequestHold(hold)
    }

    /// What holds a request that has come, and is told so.
    pub(super) fn meet(&self, request: &[u8]) -> Option<Arc<Hold>> {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |hold: &&Arc<Hold>| !*hold.ended.borrow() && contains(request, &hold.bytes);
        let hold = holds.iter().find(is_meant)?;
        hold.hits.fetch_add(1, Ordering::SeqCst);
        Some(Arc::clone(hold))
    }
}
