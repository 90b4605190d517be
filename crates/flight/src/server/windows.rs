//! What connections may have under way, out of one pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CONNECTION_WINDOW, FRAME_BYTES};
use crate::budget::{Charge, MemoryBudget};

/// Bytes that all connections together may have under way at most, however
/// much memory there is.
const POOL: u64 = 512 << 20;
/// The part of the memory, as a divisor, that is the pool's.
const POOL_PART: u64 = 8;
/// The part of what is left of the pool, as a divisor, that a connection gets: the
/// first ones as much as they can use, later ones less.
const SHARE: u64 = 64;
/// The part of the whole pool, as a divisor, that each gets while there is so
/// much, up to [`ENOUGH`]: clients hold many connections of which few are busy,
/// and the last to come are as good as the first.
const LEAST_SHARE: u64 = 128;
/// Beyond this, a connection on one machine is hardly any faster.
const ENOUGH: u64 = 1 << 20;

/// What a connection is counted with whatever it gets of the pool: the window
/// that HTTP/2 gives to everyone (64 KiB), the smallest frame (16 KiB), and what
/// the server itself keeps of a connection and of a few streams.
const BASE: u64 = 128 << 10;
/// HTTP/2's own window, which no setting makes smaller.
const LEAST_WINDOW: u32 = (64 << 10) - 1;
/// HTTP/2's own frame.
const LEAST_FRAME: u32 = 16 << 10;
/// Streams of a connection at once, if there are more of them than of these.
const LEAST_STREAMS: u64 = 64;
/// What a connection gets of the pool for each stream beyond.
const OF_STREAM: u64 = 8 << 10;

/// The pool.
pub(super) struct Windows {
    budget: Option<Arc<dyn MemoryBudget>>,
    max_streams: u64,
    /// Counted for as long as there is a pool.
    _pool: Charge,
    /// What a connection gets where it would be less by its part of what is left.
    least: u64,
    left: Mutex<u64>,
}

impl Windows {
    /// A pool of a part of what `budget` has to spare.
    pub(super) fn new(budget: Option<Arc<dyn MemoryBudget>>, max_streams: usize) -> Self {
        let mut pool = Charge::new(budget.clone());
        let part = budget.as_ref().map_or(POOL, |budget| (budget.spare() / POOL_PART).min(POOL));
        let left = if pool.grow(part) { part } else { 0 };
        let max_streams = u64::try_from(max_streams).unwrap_or(u64::MAX);
        let least = (left / LEAST_SHARE).min(ENOUGH);
        Windows { budget, max_streams, _pool: pool, least, left: Mutex::new(left) }
    }

    fn left(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share of one more connection, after room was made for it; `None`
    /// where there is none.
    pub(super) async fn share(self: &Arc<Self>) -> Option<Share> {
        let mut base = Charge::new(self.budget.clone());
        let is_counted = base.grow_with_room(BASE).await;
        let mut left = self.left();
        let base_of_pool = if is_counted { 0 } else { BASE };
        let rest = left.checked_sub(base_of_pool)?;
        let more = (rest / SHARE).max(self.least.min(rest));
        *left -= base_of_pool + more;
        drop(left);
        Some(Share { pool: Arc::clone(self), of_pool: base_of_pool + more, more, _base: base })
    }
}

/// What one connection may have under way; given back when it ends.
pub(super) struct Share {
    pool: Arc<Windows>,
    of_pool: u64,
    /// Beyond what everyone has.
    more: u64,
    _base: Charge,
}

impl Share {
    /// Bytes of one frame.
    pub(super) fn frame(&self) -> u32 {
        clamp(self.more / 16, LEAST_FRAME, FRAME_BYTES)
    }

    /// Bytes of all streams, and of each of them.
    pub(super) fn connection(&self) -> u32 {
        let frame = u64::from(self.frame() - LEAST_FRAME);
        clamp(self.more.saturating_sub(frame), LEAST_WINDOW, CONNECTION_WINDOW)
    }

    /// Streams at once.
    pub(super) fn streams(&self) -> u32 {
        let streams = LEAST_STREAMS + self.more / OF_STREAM;
        u32::try_from(streams.min(self.pool.max_streams)).unwrap_or(u32::MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.pool.left() += self.of_pool;
    }
}

fn clamp(bytes: u64, least: u32, most: u32) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[tokio::test]
    async fn first_connections_get_all_they_can_use_and_the_last_what_everyone_has() {
        let windows = Arc::new(Windows::new(None, 2_048));
        let first = windows.share().await.unwrap();
        assert_eq!((first.frame(), first.streams()), (FRAME_BYTES / 2, 1_088));
        assert!(first.connection() > 7 << 20, "{}", first.connection());
        let mut shares = vec![first];
        for _ in 0..1_023 {
            shares.push(windows.share().await.unwrap());
        }
        // Enough for many clients with many connections each.
        assert!(shares[189].connection() > 900 << 10, "{}", shares[189].connection());
        let counted: u64 = shares
            .iter()
            .map(|share| u64::from(share.connection()) + u64::from(share.frame()))
            .sum();
        let least = 1_024 * u64::from(LEAST_WINDOW + LEAST_FRAME);
        assert!(counted <= POOL + least, "{counted}");
        let last = shares.last().unwrap();
        assert_eq!((last.connection(), last.frame()), (LEAST_WINDOW, LEAST_FRAME));
        assert_eq!(last.streams(), 64);
        drop(shares);
        assert_eq!(*windows.left(), POOL);
    }

    #[tokio::test]
    async fn windows_are_counted_and_there_are_no_more_connections_than_memory_is_for() {
        let budget = Budget::new(8 << 20);
        let windows = Arc::new(Windows::new(Some(budget.clone()), 2_048));
        assert_eq!(budget.used(), 1 << 20);
        let mut shares = Vec::new();
        while let Some(share) = windows.share().await {
            shares.push(share);
        }
        // 7 MiB for what each has, and some of the pool, which the first ones shared.
        assert!((56..64).contains(&shares.len()), "{}", shares.len());
        assert!(budget.used() <= 8 << 20);
        shares.pop();
        assert!(windows.share().await.is_some(), "one left, another may come");
        drop((shares, windows));
        assert_eq!(budget.used(), 0);
    }
}
