//! Claims that come once more while the first one is on its way.
//!
//! Whoever lost the connection over which a claim waits sends it again, perhaps by another node,
//! and here the first one may not have noticed. What that gets is the answer to both: the second
//! one waits until the first is over, and then finds its leases, or goes on by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_coordinator::ClaimRequest;

/// A worker and the name that it gave its request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<(String, String)>);

impl From<&ClaimRequest> for Key {
    fn from(request: &ClaimRequest) -> Self {
        Key(Arc::new((request.worker.clone(), request.request_id.clone())))
    }
}

#[derive(Debug, Default)]
struct Count {
    under_way: usize,
    was_heard: bool,
}

/// The claims that are on their way, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    all: Arc<Mutex<HashMap<Key, Count>>>,
    have_ended: Arc<AtomicBool>,
}

impl Claims {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        // Each changes in one step: whole after a panic elsewhere.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this one is on its way.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.all().contains_key(key)
    }

    /// Whether this one is on its way once more, or was answered while it was.
    pub(super) fn is_sent_again(&self, key: &Key) -> bool {
        self.all().get(key).is_some_and(|count| count.under_way > 1 || count.was_heard)
    }

    /// Somebody has the answer to this one, which may be on its way once more.
    pub(super) fn heard(&self, key: &Key) {
        if let Some(count) = self.all().get_mut(key) {
            count.was_heard = true;
        }
    }

    /// Whether one is over since this was asked.
    pub(super) fn have_ended(&self) -> bool {
        self.have_ended.swap(false, Ordering::Relaxed)
    }

    /// It is, until what this gives is dropped.
    pub(super) fn begin(&self, key: &Key) -> UnderWay {
        self.all().entry(key.clone()).or_default().under_way += 1;
        UnderWay { claims: self.clone(), key: key.clone() }
    }
}

/// A claim that is on its way.
#[derive(Debug)]
pub(super) struct UnderWay {
    claims: Claims,
    key: Key,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = self.claims.all();
        if let Some(count) = all.get_mut(&self.key) {
            count.under_way -= 1;
            if count.under_way == 0 {
                all.remove(&self.key);
                self.claims.have_ended.store(true, Ordering::Relaxed);
            }
        }
    }
}
