//! How much a process has on its way to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit stands for.
const UNIT: usize = 1 << 10;

/// Peers above which those that nobody calls are forgotten.
const MANY_PEERS: usize = 1_024;

/// Bounds the bytes that all sends of a process have in flight together.
///
/// Who sends waits, in turn, until there is room for its segment; one that is
/// larger than all there is takes all. What waits for memory of the receiver, or
/// for a retry, holds no bytes. Cheap to clone; clones are the same governor.
///
/// ```
/// use sheaf_exchange::shuffle::Governor;
///
/// let governor = Governor::new(64 << 20);
/// assert_eq!((governor.limit(), governor.in_flight()), (64 << 20, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Governor {
    units: usize,
    bytes: Arc<Semaphore>,
    in_flight: Gauge,
}

/// Bytes that are in flight for as long as this lives.
#[derive(Debug)]
pub(crate) struct InFlight {
    _permit: OwnedSemaphorePermit,
    bytes: i64,
    gauge: Gauge,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec_by(self.bytes);
    }
}

impl Governor {
    /// At most so many bytes, rounded up to whole KiB, at least one.
    pub fn new(limit_bytes: usize) -> Self {
        let units = limit_bytes.div_ceil(UNIT).clamp(1, u32::MAX as usize);
        Governor { units, bytes: Arc::new(Semaphore::new(units)), in_flight: Gauge::default() }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.units * UNIT
    }

    /// Bytes in flight now.
    pub fn in_flight(&self) -> usize {
        (self.units - self.bytes.available_permits().min(self.units)) * UNIT
    }

    /// Waits for room. Cancel-safe: who leaves has taken nothing.
    pub(crate) async fn acquire(&self, bytes: usize) -> Option<InFlight> {
        let units = u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.units)).unwrap_or(u32::MAX);
        // It is never closed.
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units).await.ok()?;
        let (gauge, bytes) = (self.in_flight.clone(), i64::from(units) * UNIT as i64);
        gauge.inc_by(bytes);
        Some(InFlight { _permit: permit, bytes, gauge })
    }

    /// Bytes in flight, as a metric.
    pub(super) fn gauge(&self) -> Gauge {
        self.in_flight.clone()
    }
}

/// Calls to each peer at one time.
#[derive(Debug)]
pub(super) struct Lines {
    calls: usize,
    peers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Lines {
    pub(super) fn new(calls: usize) -> Self {
        Lines { calls, peers: Mutex::default() }
    }

    /// Waits for a free line to a peer.
    pub(super) async fn acquire(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        self.of(peer).acquire_owned().await.ok()
    }

    /// A line to a peer, if one is free now.
    pub(super) fn try_acquire(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        self.of(peer).try_acquire_owned().ok()
    }

    fn of(&self, peer: &str) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MANY_PEERS && !peers.contains_key(peer) {
            // Its permits and those who wait for one hold it.
            peers.retain(|_, lines| Arc::strong_count(lines) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.calls));
        Arc::clone(peers.entry(peer.to_owned()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_segment_larger_than_all_there_is_takes_all() {
        let governor = Governor::new(10 * UNIT);
        let small = governor.acquire(1).await.unwrap();
        assert_eq!(governor.in_flight(), UNIT);
        let mut large = Box::pin(governor.acquire(usize::MAX));
        assert!(futures::poll!(&mut large).is_pending());
        // Who comes later does not overtake it for ever.
        let mut later = Box::pin(governor.acquire(1));
        assert!(futures::poll!(&mut later).is_pending());
        drop(small);
        let all = large.await.unwrap();
        assert_eq!(governor.in_flight(), governor.limit());
        assert!(futures::poll!(&mut later).is_pending());
        drop(all);
        drop(later.await);
        assert_eq!(governor.in_flight(), 0);
    }

    #[tokio::test]
    async fn peers_that_nobody_calls_are_forgotten() {
        let lines = Lines::new(1);
        let held = lines.acquire("held").await.unwrap();
        for peer in 0..2 * MANY_PEERS {
            drop(lines.acquire(&peer.to_string()).await);
        }
        assert!(lines.peers.lock().unwrap().len() <= MANY_PEERS);
        assert!(futures::poll!(Box::pin(lines.acquire("held"))).is_pending());
        drop(held);
        assert!(lines.acquire("held").await.is_some());
    }
}
