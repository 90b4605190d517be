//! Moves chunks to disk when memory gets short, and reads them back.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::{Budget, Full, MemoryBudget, Message, Piece, Told};
use sheaf_retry::{Code, Retryable as _};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Claim, Exchange, Promise, ROOM_AFTER, Shared};
use crate::shuffle::chunk::{Entry, pieces_of};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Sender};
use crate::shuffle::spill::{SpillDirectory, SpillFile};
use crate::shuffle::table::Turn;

/// About the size of one file: what is freed together.
const FILE_BYTES: u64 = 64 << 20;

/// How long nothing is tried after it failed, or there was nothing to move.
const PAUSE: Duration = Duration::from_secs(1);

/// How often who needs room waits for some to be made.
const TRIES: u32 = 16;

/// What makes room on disk.
#[derive(Debug)]
pub(super) struct Spill {
    pub(super) directory: Arc<SpillDirectory>,
    runtime: Handle,
    is_running: AtomicBool,
    /// Most bytes that somebody waits for in this run.
    wanted: AtomicU64,
    not_before: Mutex<Duration>,
    /// Told when there is a file more, and when what was begun is over.
    ended: Notify,
}

impl Spill {
    /// Work is done on this runtime's threads for what blocks.
    pub(super) fn new(directory: Arc<SpillDirectory>, runtime: Handle) -> Self {
        let (is_running, wanted, not_before, ended) = Default::default();
        Spill { directory, runtime, is_running, wanted, not_before, ended }
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    fn not_before(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run, until it is over in whatever way.
struct Run(Exchange);

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(spill) = &self.0.shared.spill {
            spill.wanted.store(0, Ordering::Relaxed);
            spill.is_running.store(false, Ordering::Release);
            spill.ended.notify_waiters();
        }
    }
}

impl Exchange {
    /// Bytes of files that chunks were moved to.
    pub fn spilled_bytes(&self) -> u64 {
        self.shared.spill.as_ref().map_or(0, |spill| spill.directory.used())
    }

    /// The budget for a server that receives chunks: where it is full, chunks
    /// are moved to disk, and what comes waits for that.
    pub fn memory(&self) -> Arc<dyn MemoryBudget> {
        Arc::new(ExchangeMemory {
            budget: Arc::clone(self.budget()),
            shared: Arc::downgrade(&self.shared),
        })
    }

    /// Which room a sender may have. Where senders are read one after the other, an
    /// eighth of what chunks have, and may have, is kept for the one that is read.
    pub(in crate::shuffle) fn claim(&self, query: &str, stage: u32, sender: u32) -> Claim {
        match self.state().table.turn(query, stage, sender) {
            Turn::Any => Claim::Plain,
            Turn::Its => Claim::First,
            Turn::Another => {
                let room = self.budget().spare().saturating_add(self.shared.own.resident());
                Claim::Last { reserve: room / 8 }
            }
        }
    }

    /// Whether there is room for a chunk that nobody was promised: not what others
    /// were, nor what is kept for who is read. For every way in but a conversation.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn admit(
        &self,
        key: &PartitionKey,
        sender: Sender,
        message: &Message,
    ) -> Result<(), Error> {
        let reserve = match self.claim(key.query(), key.stage(), sender.index) {
            Claim::Plain | Claim::First => 0,
            Claim::Last { reserve } => reserve,
        };
        let kept = self.shared.promises.bytes().saturating_add(reserve);
        if kept == 0 {
            return Ok(());
        }
        let budget = self.budget();
        let (needed, used) = (budget.needed(&pieces_of(message)), budget.used());
        let (used, limit) = (used.saturating_add(kept), budget.limit());
        if Promise::needed(needed) <= limit.saturating_sub(used) {
            return Ok(());
        }
        self.want_room(needed.saturating_add(kept));
        self.noted(Err(Error::Memory(Full { needed, used, limit })))
    }

    /// Bytes of chunks in memory, and what others leave of the budget.
    fn share(&self) -> (u64, u64) {
        let (budget, own) = (self.budget(), self.shared.own.resident());
        // Between two looks there may be more of them.
        let others = budget.used().saturating_sub(own);
        (own, budget.limit().saturating_sub(others))
    }

    /// Begins to make room where three quarters of the memory are in use.
    pub(super) fn relieve(&self) {
        let budget = self.budget();
        if budget.used() <= budget.limit() / 4 * 3 {
            return;
        }
        match &self.shared.beside {
            Some(other) => self.ask(other, budget.limit() / 4, false),
            None => self.relieve_alone(),
        }
    }

    /// Begins to move chunks where they take three quarters of what others leave.
    fn relieve_alone(&self) {
        let (own, share) = self.share();
        if own > share / 4 * 3 {
            self.start(0);
        }
    }

    /// Waits until so many bytes more fit in memory, as long as others let go of some
    /// or chunks can be moved to disk for them; whether they fit. For who takes chunks
    /// from a network and would rather wait a little than refuse them. Cancel-safe.
    pub async fn make_room(&self, bytes: u64) -> bool {
        let budget = self.budget();
        let fits = || bytes <= budget.spare();
        if fits() {
            return true;
        }
        if bytes > budget.limit() {
            return false;
        }
        // What has a file already is let go for nothing.
        if let Some(other) = &self.shared.beside
            && other.make_room(bytes).await
            && fits()
        {
            return true;
        }
        self.move_for(bytes, fits).await
    }

    /// Moves chunks until it fits, or no more can be moved; whether it fits.
    async fn move_for(&self, bytes: u64, fits: impl Fn() -> bool) -> bool {
        let Some(spill) = &self.shared.spill else { return fits() };
        for _ in 0..TRIES {
            // Before it is looked: what ends in between is not missed.
            let mut ended = pin!(spill.ended.notified());
            ended.as_mut().enable();
            if fits() {
                return true;
            }
            if !self.start(bytes) {
                break;
            }
            ended.await;
        }
        fits()
    }

    /// Has room made for who waits for it elsewhere; where nobody can, it is readers
    /// who make it.
    pub(in crate::shuffle) fn want_room(&self, bytes: u64) {
        match &self.shared.beside {
            Some(other) => self.ask(other, bytes, true),
            None => drop(self.start(bytes)),
        }
    }

    /// Asks who can let go of memory, and moves chunks where that is not enough:
    /// in any case for somebody who waits, and else where they are many.
    fn ask(&self, other: &Arc<dyn MemoryBudget>, bytes: u64, waits: bool) {
        let Ok(runtime) = Handle::try_current() else { return self.relieve_alone() };
        if self.shared.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, other) = (self.clone(), Arc::clone(other));
        drop(runtime.spawn(async move {
            let is_made = other.make_room(bytes).await;
            if is_made {
                this.say_freed();
            } else if waits {
                this.start(bytes);
            } else {
                this.relieve_alone();
            }
            // What is promised and not sent yet is no room either: not at once again.
            this.shared.clock.sleep(ROOM_AFTER).await;
            this.shared.is_asking.store(false, Ordering::Release);
        }));
    }

    /// Has chunks moved, until so many bytes are spare besides, unless that is under
    /// way; whether it is.
    fn start(&self, wanted: u64) -> bool {
        let Some(spill) = &self.shared.spill else { return false };
        let is_paused = self.shared.clock.elapsed() < *spill.not_before();
        if is_paused || self.shared.own.resident() == 0 {
            return false;
        }
        spill.wanted.fetch_max(wanted, Ordering::Relaxed);
        if !spill.is_running.swap(true, Ordering::AcqRel) {
            let run = Run(self.clone());
            drop(spill.runtime.spawn_blocking(move || run.0.spill()));
        }
        true
    }

    /// Moves chunks until they take half of what others leave. Blocks.
    fn spill(&self) {
        let Shared { budget, clock, metrics, .. } = &*self.shared;
        let Some(spill) = &self.shared.spill else { return };
        loop {
            let (own, share) = self.share();
            let missing = spill.wanted.load(Ordering::Relaxed).saturating_sub(budget.spare());
            let more = own.saturating_sub(share / 2).max(missing.min(own));
            if more == 0 {
                break;
            }
            match self.spill_file(&spill.directory, more) {
                Ok(0) => {
                    *spill.not_before() = clock.elapsed() + PAUSE;
                    break;
                }
                Ok(bytes) => {
                    metrics.spilled_bytes.inc_by(bytes);
                    // There may be room for those who wait already.
                    spill.ended.notify_waiters();
                    self.say_freed();
                }
                Err(error) => {
                    metrics.spill_failures.inc();
                    tracing::warn!(code = %error.code(), %error, "no chunks can be moved to disk");
                    *spill.not_before() = clock.elapsed() + PAUSE;
                    break;
                }
            }
        }
        self.shared.note_spill();
    }

    /// Moves about so many bytes into one file; how many it were.
    fn spill_file(&self, directory: &Arc<SpillDirectory>, wanted: u64) -> Result<u64, Error> {
        // Where the disk gets full too, smaller files still fit.
        let wanted = wanted.min(FILE_BYTES).min(directory.spare() / 2);
        let cold = self.state().table.coldest(wanted);
        let chunks = cold.iter().flat_map(|cold| cold.chunks());
        if chunks.clone().next().is_none() {
            return Ok(0);
        }
        let (file, starts) = SpillFile::write(directory, chunks.map(|chunk| chunk.message()))?;
        // From here on they are read from there; memory is freed without the lock.
        let freed = self.state().table.spilled(&cold, &file, &starts);
        drop(freed);
        Ok(cold.iter().map(|cold| cold.bytes()).sum())
    }

    /// The message of a chunk, from wherever it is.
    pub(super) async fn fetch(&self, entry: Entry) -> Result<Message, Error> {
        if let Some(message) = entry.in_memory() {
            return Ok(message);
        }
        // Where no room can be made it is read all the same: who reads is who
        // frees memory, and has one chunk at a time.
        self.make_room(u64::from(entry.bytes)).await;
        let budget = Arc::clone(self.budget());
        let metrics = &self.shared.metrics;
        metrics.spill_read_bytes.inc_by(u64::from(entry.bytes));
        let read = tokio::task::spawn_blocking(move || entry.read(&budget)).await;
        let lost = |_| sheaf_flight::Error::new(Code::Internal, "a read from disk was lost");
        let read = read.map_err(lost)?;
        if let Err(error @ Error::Spilled { .. }) = &read {
            metrics.spill_corrupt.inc();
            tracing::error!(code = %error.code(), %error, "a chunk is lost");
        }
        read
    }
}

/// The budget of an exchange that makes room. What is counted may have it, and
/// so it does not keep the exchange.
struct ExchangeMemory {
    budget: Arc<Budget>,
    shared: std::sync::Weak<Shared>,
}

#[async_trait]
impl MemoryBudget for ExchangeMemory {
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
        match self.shared.upgrade() {
            Some(shared) => Exchange { shared }.make_room(bytes).await,
            None => self.budget.make_room(bytes).await,
        }
    }
}
