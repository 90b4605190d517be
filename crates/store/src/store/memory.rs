//! Memory that others need: payloads make room for it, and so do puts under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::{Budget, Full, MemoryBudget, Piece, Told};
use sheaf_retry::Retryable as _;
use tokio::sync::{Notify, watch};

use super::intake::Intake;
use super::{Inner, room};
use crate::budget::Held;
use crate::error::Error;

/// The budget of a store for whoever receives what it is to keep.
///
/// Bodies that are kept have it, to be counted until they go: so it must not
/// keep the store that keeps them.
pub(super) struct StoreMemory {
    budget: Arc<Budget>,
    inner: Weak<Inner>,
}

impl StoreMemory {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        StoreMemory { budget: inner.account.budget(), inner: Arc::downgrade(inner) }
    }
}

#[async_trait]
impl MemoryBudget for StoreMemory {
    fn spare(&self) -> u64 {
        self.budget.spare()
    }

    fn try_take(&self, bytes: u64) -> bool {
        self.budget.try_take(bytes)
    }

    fn give(&self, bytes: u64) {
        self.budget.give(bytes);
    }

    fn becomes(&self, piece: Piece) {
        self.budget.becomes(piece);
    }

    fn give_piece(&self, piece: Piece) {
        self.budget.give_piece(piece);
    }

    fn when_taken(&self, told: Told) {
        self.budget.when_taken(told);
    }

    async fn make_room(&self, bytes: u64) -> bool {
        match self.inner.upgrade() {
            Some(inner) => make(&inner, bytes).await,
            None => self.budget.make_room(bytes).await,
        }
    }
}

/// Whether room was made, and it is worth trying again to take so many bytes.
pub(super) async fn make(inner: &Arc<Inner>, bytes: u64) -> bool {
    let budget = inner.account.budget();
    if bytes <= budget.spare() {
        return true;
    }
    if bytes > budget.limit() {
        return false;
    }
    let full = Full { needed: bytes, used: budget.used(), limit: budget.limit() };
    match room::make(inner, full).await {
        Ok(true) => true,
        Ok(false) => inner.pressure.ask(inner, bytes).await,
        Err(error) => {
            tracing::debug!(code = %error.code(), %error, "no room can be made in memory");
            false
        }
    }
}

/// How often what one message unfolds to may be in memory: decoded, encoded
/// anew, and that of the message before while it is on its way.
pub(super) const COPIES: u64 = 3;

/// Has memory counted that a read unfolds something into. All reads together
/// have a part of the whole: who does not read what was asked for keeps no put
/// from its memory.
pub(super) async fn unfold(inner: &Arc<Inner>, bytes: u64) -> Result<Held, Error> {
    let unfolding = &inner.unfolding;
    // What is too much the decoder refuses, by a limit of its own.
    let bytes = bytes.min(unfolding.limit() / COPIES);
    let mut held = Held::new(unfolding);
    while let Err(full) = held.add_bytes(bytes) {
        let is_quota = unfolding.used() + bytes > unfolding.limit();
        if is_quota || !make(inner, bytes).await {
            return Err(room::refusal(full));
        }
    }
    Ok(held)
}

/// The same, where there is room without anybody's making it: a put that waited
/// for others to make way could wait for itself.
pub(super) fn unfold_now(inner: &Arc<Inner>, bytes: u64) -> Option<Held> {
    let mut held = Held::new(&inner.unfolding);
    held.add_bytes(bytes).is_ok().then_some(held)
}

/// How long who needs memory waits for a put to move what it has.
const MOVE_TIME: Duration = Duration::from_secs(5);

/// Has puts under way move to disk what they have in memory.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Bytes that somebody needs.
    needed: watch::Sender<u64>,
    /// Bytes that puts under way could move.
    movable: AtomicU64,
    /// Told when one of them did, or is over.
    moved: Notify,
}

impl Pressure {
    /// Whether a put made room, or may have.
    async fn ask(&self, inner: &Arc<Inner>, bytes: u64) -> bool {
        let mut moved = std::pin::pin!(self.moved.notified());
        moved.as_mut().enable();
        if inner.directory.is_none() || self.movable.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.needed.send_replace(bytes);
        // A put whose client does not let it go on moves nothing.
        tokio::select! {
            () = moved => true,
            () = inner.clock.sleep(MOVE_TIME) => false,
        }
    }
}

/// What one put under way has in memory, and could move to disk.
pub(super) struct Movable {
    inner: Arc<Inner>,
    bytes: u64,
    asked: watch::Receiver<u64>,
}

impl Movable {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        let asked = inner.pressure.needed.subscribe();
        Movable { inner: Arc::clone(inner), bytes: 0, asked }
    }

    pub(super) fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.inner.pressure.movable.fetch_add(bytes, Ordering::Release);
    }

    /// It was moved, or is not in memory any more.
    pub(super) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.inner.pressure.movable.fetch_sub(bytes, Ordering::Release);
        self.inner.pressure.moved.notify_waiters();
    }

    /// Resolves when somebody needs memory, and there is something to move.
    pub(super) async fn asked(&mut self) {
        // The sender is part of the store.
        if self.bytes == 0 || self.asked.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether there is still too little.
    fn is_needed(&self) -> bool {
        *self.asked.borrow() > self.inner.account.budget().spare()
    }
}

impl Drop for Movable {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Intake {
    /// Makes room for others, where there is still too little.
    pub(super) async fn give_way(&mut self, inner: &Arc<Inner>) -> Result<(), Error> {
        if self.movable.is_needed() {
            return self.write_on(inner).await;
        }
        inner.pressure.moved.notify_waiters();
        Ok(())
    }
}
