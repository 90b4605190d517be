//! Memory for the bodies of messages: aligned as Arrow wants it, used again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use memmap2::MmapMut;
use sheaf_retry::SharedClock;
use tokio::sync::Notify;

use super::coming::Coming;
use super::receivers::{Receiver, Receivers};
use crate::budget::{Charge, Counted, MemoryBudget};

/// Bodies begin at multiples of this, as Arrow recommends.
pub(super) const ALIGNMENT: usize = 64;

/// From this size on a body has pages of its own, which are used again; below,
/// the allocator is as good at that.
const OWN_PAGES: usize = 128 << 10;

/// Free pages that are kept while nothing is received.
const IDLE_AT_REST: usize = 16 << 20;
/// The same while something is received, whatever else is spare.
const IDLE_AT_WORK: usize = 48 << 20;
/// The same in a client: two bodies of 64 MiB in turns.
const IDLE_IN_CLIENT: usize = 144 << 20;

/// Pages beyond those kept at rest go back to the system when they were not
/// needed for so long. New ones cost up to ten times what is copied into them, so
/// that a put after a pause would be that much slower than the one before it;
/// whoever else needs memory of the limit gets it at once.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(60);

/// Bodies with pages of their own at once. Linux allows a process 65,530
/// mappings, and a body can take two; beyond this the allocator has the others.
const MAX_OWN: usize = 8 << 10;

/// A large page, as most systems have them.
const HUGE_PAGE: usize = 2 << 20;

/// Sizes of pages are rounded up to one of so many between two powers of two:
/// what was one body fits another, and at most a sixteenth is lost.
const STEPS: usize = 16;

/// From this size on a message is counted against the budget while it comes;
/// what is shorter is part of what each call is counted with.
pub(crate) const COUNTED: usize = 16 << 10;

/// From this size on a value stays counted until its memory is free again.
/// Whoever keeps a shorter one has copied it, and counts the copy.
const COUNTED_ON: usize = 64 << 10;

/// A body without large pages is counted in steps of this many bytes as it comes.
const STEP: usize = 1 << 20;

/// How long a stream that was ended for others may take to let its memory go.
const END_TIME: Duration = Duration::from_secs(1);

/// Hands out memory for bodies, and keeps what comes back.
///
/// New pages cost the system more than copying into them does, so that those
/// of a body that is gone serve the next one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory {
    idle: Arc<Mutex<Idle>>,
    idle_at_work: usize,
    budget: Option<Arc<dyn MemoryBudget>>,
    receivers: Arc<Receivers>,
    clock: SharedClock,
    /// Told when more is kept than at rest.
    kept: Arc<Notify>,
    /// Told when a message that was being put together let its memory go.
    freed: Arc<Notify>,
}

/// Pages that nobody uses, by the room in them; those of one size by the time
/// since when.
#[derive(Default)]
struct Idle {
    pages: BTreeMap<usize, VecDeque<(Duration, MmapMut)>>,
    bytes: usize,
    /// Mappings that there are, in use or not.
    mapped: usize,
}

/// Says that a stream is being received, as long as it lives.
pub(crate) struct Receiving {
    memory: Memory,
    receiver: Arc<Receiver>,
}

impl Memory {
    /// The memory of a server; while it receives, pages are kept as far as
    /// there is memory to spare.
    pub(crate) fn of_server(budget: Option<Arc<dyn MemoryBudget>>, clock: SharedClock) -> Self {
        let memory = Memory::new(IDLE_AT_WORK, budget, clock);
        if let Some(budget) = &memory.budget {
            let idle = Arc::downgrade(&memory.idle);
            budget.when_taken(Box::new(move |spare| {
                if let Some(idle) = idle.upgrade() {
                    trim(&idle, usize::try_from(spare).unwrap_or(usize::MAX));
                }
            }));
        }
        memory
    }

    /// The memory of a client.
    pub(crate) fn of_client(clock: SharedClock) -> Self {
        Memory::new(IDLE_IN_CLIENT, None, clock)
    }

    fn new(idle_at_work: usize, budget: Option<Arc<dyn MemoryBudget>>, clock: SharedClock) -> Self {
        let (idle, receivers) = (Arc::default(), Arc::default());
        let (kept, freed) = (Arc::default(), Arc::default());
        Memory { idle, idle_at_work, budget, receivers, clock, kept, freed }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        lock(&self.idle)
    }

    /// What counts the memory of the process, where anything does.
    pub(crate) fn budget(&self) -> Option<Arc<dyn MemoryBudget>> {
        self.budget.clone()
    }

    /// Keeps more pages for later while it lives.
    pub(crate) fn receiving(&self) -> Receiving {
        Receiving { memory: self.clone(), receiver: self.receivers.add() }
    }

    /// Pages of its own for a body, unless there are too many already, or the
    /// system gives none. Those that were used before take memory at once, which
    /// is counted as a whole or not had.
    fn pages(&self, size: usize, charge: &mut Charge) -> Option<Pages> {
        let room = room(size);
        let known = self.idle().take(room);
        let known = known.filter(|_| {
            let is_counted = charge.grow(room as u64);
            if !is_counted {
                self.idle().mapped -= 1;
            }
            is_counted
        });
        let pages = match known {
            Some(pages) => pages,
            None => {
                // What is spare gets less by this.
                self.trim(self.most(room));
                if self.idle().mapped >= MAX_OWN {
                    return None;
                }
                let pages = map(room, size).ok()?;
                self.idle().mapped += 1;
                pages
            }
        };
        Some(Pages { pages: Some(pages), room, home: self.clone() })
    }

    /// Bytes that may be kept at work where so many more are needed: what the
    /// budget has to spare, which those that are in use are no part of.
    fn most(&self, needed: usize) -> usize {
        let Some(budget) = &self.budget else { return self.idle_at_work };
        let spare = usize::try_from(budget.spare()).unwrap_or(usize::MAX);
        spare.saturating_sub(needed)
    }

    fn put_back(&self, room: usize, pages: MmapMut) {
        let (most, now) = (self.most(0), self.clock.elapsed());
        // With something to spare they wait a while for the next stream.
        let at_work = self.budget.is_some() || !self.receivers.is_empty();
        let most = if at_work { most } else { IDLE_AT_REST };
        let mut idle = self.idle();
        if idle.bytes + room <= most {
            idle.bytes += room;
            idle.pages.entry(room).or_default().push_back((now, pages));
            if idle.bytes > IDLE_AT_REST {
                self.kept.notify_one();
            }
        } else {
            idle.mapped -= 1;
        }
    }

    /// Gives back pages beyond so many bytes.
    fn trim(&self, most: usize) {
        trim(&self.idle, most);
    }

    /// Has so many bytes counted for `charge`, of a message of `own`: others
    /// that come more slowly are ended where there is no other room.
    async fn make_room(&self, own: &Receiver, bytes: u64) -> bool {
        let Some(budget) = &self.budget else { return true };
        // It cannot take anything while it waits here.
        let asked = self.clock.elapsed();
        loop {
            if budget.make_room(bytes).await {
                return true;
            }
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if budget.spare() >= bytes {
                return true;
            }
            if !self.receivers.end_slowest(own, asked, self.clock.elapsed()) {
                return false;
            }
            tokio::select! {
                () = freed => {}
                () = self.clock.sleep(END_TIME) => {}
            }
        }
    }

    /// Resolves once more is kept than at rest.
    pub(crate) async fn keeps_much(&self) {
        while self.idle().bytes <= IDLE_AT_REST {
            self.kept.notified().await;
        }
    }

    /// Gives back pages that were not needed for [`IDLE_TIME`].
    pub(crate) fn give_back_old(&self) {
        let Some(until) = self.clock.elapsed().checked_sub(IDLE_TIME) else { return };
        let mut old = Vec::new();
        let mut guard = self.idle();
        let idle = &mut *guard;
        for (room, of_size) in &mut idle.pages {
            while idle.bytes > IDLE_AT_REST
                && of_size.front().is_some_and(|(since, _)| *since <= until)
            {
                let Some((_, pages)) = of_size.pop_front() else { break };
                idle.bytes -= room;
                old.push(pages);
            }
        }
        idle.pages.retain(|_, of_size| !of_size.is_empty());
        idle.mapped -= old.len();
        drop(guard);
    }

    /// Bytes that are kept for later.
    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        self.idle().bytes
    }
}

impl Receiving {
    /// Room for a body of so many bytes, which are counted or not; of large ones
    /// only what is written to takes memory, and is counted.
    ///
    /// # Errors
    /// What the system says where it has no more.
    pub(super) fn body(&self, size: usize, is_counted: bool) -> io::Result<Body> {
        self.receiver.begin(self.memory.clock.elapsed());
        let budget = self.memory.budget().filter(|_| is_counted);
        let is_counted = budget.is_some();
        let mut charge = Charge::new(budget);
        let pages = if size < OWN_PAGES { None } else { self.memory.pages(size, &mut charge) };
        let place = match pages {
            Some(pages) => Place::Pages(pages),
            None => heap(size)?,
        };
        let charge = Coming::new(charge, Arc::clone(&self.receiver), &self.memory.freed);
        Ok(Body { charge, place, size, filled: 0, is_counted })
    }

    /// Bytes of a message that somebody else puts together.
    pub(crate) fn elsewhere(&self) -> Coming {
        self.receiver.begin(self.memory.clock.elapsed());
        let charge = Charge::new(self.memory.budget());
        Coming::new(charge, Arc::clone(&self.receiver), &self.memory.freed)
    }

    /// Whether the stream is to end so that faster ones find memory; wakes the
    /// caller where it is told so later.
    pub(crate) fn is_ended(&self, context: &mut Context<'_>) -> bool {
        self.receiver.is_ended(context)
    }

    /// Resolves to whether so much memory was found that it is worth trying
    /// to have it counted.
    pub(crate) fn make_room(&self, bytes: u64) -> BoxFuture<'static, bool> {
        let (memory, receiver) = (self.memory.clone(), Arc::clone(&self.receiver));
        Box::pin(async move { memory.make_room(&receiver, bytes).await })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let at_rest = self.memory.receivers.remove(&self.receiver);
        if at_rest && self.memory.budget.is_none() {
            self.memory.trim(IDLE_AT_REST);
        }
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    // Pages are moved in and out whole: a panic leaves nothing half done.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back pages beyond so many bytes.
fn trim(idle: &Mutex<Idle>, most: usize) {
    let mut surplus = Vec::new();
    let mut idle = lock(idle);
    while idle.bytes > most {
        let Some(&largest) = idle.pages.keys().next_back() else { break };
        surplus.extend(idle.take(largest));
    }
    idle.mapped -= surplus.len();
    // Unmapped without keeping others waiting.
    drop(idle);
}

impl Idle {
    /// The pages of a size that were used last.
    fn take(&mut self, room: usize) -> Option<MmapMut> {
        let of_size = self.pages.get_mut(&room)?;
        let pages = of_size.pop_back().map(|(_, pages)| pages);
        if of_size.is_empty() {
            self.pages.remove(&room);
        }
        self.bytes -= pages.as_ref().map_or(0, |_| room);
        pages
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// Room for a body among all other memory.
fn heap(size: usize) -> io::Result<Place> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(size + ALIGNMENT).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    bytes.resize(start, 0);
    Ok(Place::Heap { bytes, start })
}

/// New pages, of which a body of `size` bytes is to be written.
///
/// A page of 4 KiB costs more to get than its bytes do to copy, so that large
/// ones are asked for where the body fills them: its end has small ones where
/// more than a sixteenth would be lost.
fn map(room: usize, size: usize) -> io::Result<MmapMut> {
    // Linux puts a mapping where large pages fit only if it is so many of them
    // long; what is not written to takes no memory.
    let length = if size < HUGE_PAGE { room } else { room.next_multiple_of(HUGE_PAGE) };
    let pages = MmapMut::map_anon(length)?;
    #[cfg(target_os = "linux")]
    if size >= HUGE_PAGE {
        let rounded = size.next_multiple_of(HUGE_PAGE);
        let whole = match rounded - size {
            little if little <= size / STEPS => rounded,
            _ => size / HUGE_PAGE * HUGE_PAGE,
        };
        if let Err(error) = pages.advise_range(memmap2::Advice::HugePage, 0, whole) {
            tracing::debug!(%error, "the system gives no large pages");
        }
    }
    Ok(pages)
}

/// A size rounded up to one that others are rounded to as well.
fn room(size: usize) -> usize {
    let step = (size.next_power_of_two() / 2 / STEPS).max(4 << 10);
    size.next_multiple_of(step)
}

/// A body that is being received.
pub(super) struct Body {
    /// Given before the place is, which may be kept as far as there is something spare.
    charge: Coming,
    place: Place,
    size: usize,
    filled: usize,
    is_counted: bool,
}

enum Place {
    Heap { bytes: Vec<u8>, start: usize },
    Pages(Pages),
}

/// Pages that go back to where they came from.
struct Pages {
    pages: Option<MmapMut>,
    room: usize,
    home: Memory,
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.home.put_back(self.room, pages);
        }
    }
}

impl Body {
    /// Bytes that are still to come.
    pub(super) fn missing(&self) -> usize {
        self.size - self.filled
    }

    /// Has what comes next counted: the bytes there is no room for, if any.
    pub(super) fn lacks(&mut self) -> Option<u64> {
        let counted = usize::try_from(self.charge.bytes()).unwrap_or(usize::MAX);
        if !self.is_counted || self.filled < counted || self.missing() == 0 {
            return None;
        }
        // A large page takes memory as a whole.
        let step = if self.size >= HUGE_PAGE { HUGE_PAGE } else { STEP };
        let most = match &self.place {
            Place::Pages(Pages { room, .. }) => *room,
            Place::Heap { .. } => self.size,
        };
        let step = step.min(most.saturating_sub(counted)) as u64;
        (!self.charge.grow(step)).then_some(step)
    }

    /// Takes what it needs from the front of `bytes`; says how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut count = bytes.len().min(self.missing());
        if self.is_counted {
            let counted = usize::try_from(self.charge.bytes()).unwrap_or(usize::MAX);
            count = count.min(counted.saturating_sub(self.filled));
            self.charge.fill(count);
        }
        match &mut self.place {
            Place::Heap { bytes: to, .. } => to.extend_from_slice(&bytes[..count]),
            Place::Pages(Pages { pages: Some(pages), .. }) => {
                pages[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            }
            Place::Pages(Pages { pages: None, .. }) => {}
        }
        self.filled += count;
        count
    }

    /// The whole body, which nothing is missing of, and what is counted of it
    /// where it does not count itself: until its message is whole that is to be
    /// kept, since another part of it may be a long time coming.
    pub(super) fn finish(self) -> (Bytes, Option<Coming>) {
        debug_assert_eq!(self.missing(), 0);
        let Body { charge, place, size, is_counted, .. } = self;
        let (charge, pending) = match is_counted && size > COUNTED_ON {
            true => (charge.whole(), None),
            false => (None, Some(charge).filter(|charge| charge.bytes() > 0)),
        };
        let at = |bytes: &[u8]| (bytes.as_ptr().addr(), size);
        let body = match (place, charge) {
            (Place::Heap { bytes, start }, None) => Bytes::from(bytes).slice(start..),
            (place, charge) => {
                let mut whole = Whole { _counted: None, place, size };
                whole._counted = charge.map(|charge| charge.into_piece(at(whole.as_ref())));
                Bytes::from_owner(whole)
            }
        };
        (body, pending)
    }
}

/// Owner of a received body: its pages are used again once no slice of it is left.
struct Whole {
    /// Given before the pages are, as that of [`Body`].
    _counted: Option<Counted>,
    place: Place,
    size: usize,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        match &self.place {
            Place::Heap { bytes, start } => &bytes[*start..],
            Place::Pages(pages) => pages.pages.as_deref().map_or(&[], |pages| &pages[..self.size]),
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::{ManualClock, SystemClock, Timestamp};

    use super::*;
    use crate::budget::Budget;

    fn receive(memory: &Memory, sent: &[u8], piece: usize) -> Bytes {
        let mut body = memory.receiving().body(sent.len(), sent.len() >= COUNTED).unwrap();
        for mut piece in sent.chunks(piece) {
            while !piece.is_empty() {
                assert_eq!(body.lacks(), None);
                piece = &piece[body.fill(piece)..];
            }
        }
        assert_eq!(body.fill(b"more"), 0);
        body.finish().0
    }

    #[test]
    fn bodies_of_any_size_are_whole_and_aligned() {
        let memory = Memory::of_client(SystemClock::shared());
        let sizes = [0, 1, 63, 64, 65, 1_000, OWN_PAGES - 1, OWN_PAGES, OWN_PAGES + 1, 3 << 20];
        for size in sizes {
            let sent: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
            let got = receive(&memory, &sent, 16 << 10);
            assert_eq!(got, sent);
            assert_eq!(got.as_ptr() as usize % ALIGNMENT, 0, "{size}");
        }
    }

    #[test]
    fn pages_serve_the_next_body_and_hold_nothing_of_the_last_one() {
        let memory = Memory::of_client(SystemClock::shared());
        let first = receive(&memory, &vec![7; 1 << 20], 1 << 20);
        let slice = first.slice(10..20);
        drop(first);
        assert_eq!(memory.idle_bytes(), 0, "a slice is left");
        drop(slice);
        let kept = memory.idle_bytes();
        assert!(kept >= 1 << 20);
        let second = receive(&memory, &vec![9; (1 << 20) - 5], 1 << 20);
        assert_eq!(memory.idle_bytes(), 0, "the same pages");
        assert_eq!(second, vec![9; (1 << 20) - 5]);
        drop(second);
        assert_eq!(memory.idle_bytes(), kept);
    }

    /// What 80 MiB of bodies leave behind.
    fn receive_many(memory: &Memory) {
        let many: Vec<Bytes> =
            (0..80).map(|_| receive(memory, &vec![1; 1 << 20], 1 << 20)).collect();
        drop(many);
    }

    #[test]
    fn a_client_keeps_little_at_rest() {
        let memory = Memory::of_client(SystemClock::shared());
        receive_many(&memory);
        assert_eq!(memory.idle_bytes(), IDLE_AT_REST);
        let receiving = memory.receiving();
        receive_many(&memory);
        assert_eq!(memory.idle_bytes(), 80 << 20);
        drop((memory.receiving(), receiving));
        assert_eq!(memory.idle_bytes(), IDLE_AT_REST);
    }

    #[test]
    fn a_server_keeps_what_is_spare_and_for_a_while() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let budget: Arc<dyn MemoryBudget> = Budget::new(100 << 20);
        let memory = Memory::of_server(Some(Arc::clone(&budget)), clock.clone());
        receive_many(&memory);
        assert_eq!((memory.idle_bytes(), budget.spare()), (80 << 20, 100 << 20));
        // Others need memory: what is kept goes first.
        assert!(budget.try_take(50 << 20));
        assert_eq!(memory.idle_bytes(), 50 << 20);
        // So do other sizes.
        let other = receive(&memory, &vec![1; 1_000_000], 1_000_000);
        assert!(memory.idle_bytes() as u64 <= budget.spare());
        drop(other);
        memory.give_back_old();
        assert!(memory.idle_bytes() > 40 << 20);
        clock.advance(IDLE_TIME);
        memory.give_back_old();
        assert!(memory.idle_bytes() <= IDLE_AT_REST);
    }

    #[test]
    fn mappings_are_counted_and_bounded() {
        let memory = Memory::of_client(SystemClock::shared());
        let receiving = memory.receiving();
        let held: Vec<Bytes> = (0..3).map(|_| receive(&memory, &[1; OWN_PAGES], 1000)).collect();
        assert_eq!(memory.idle().mapped, 3);
        drop(held);
        assert_eq!(memory.idle().mapped, 3, "kept for later");
        receive_many(&memory);
        drop(receiving);
        let left: usize = memory.idle().pages.values().map(VecDeque::len).sum();
        assert_eq!(memory.idle().mapped, left);
        memory.idle().mapped = MAX_OWN;
        let beyond = receive(&memory, &vec![2; 3 << 20], 1 << 20);
        assert_eq!(memory.idle().mapped, MAX_OWN);
        assert!(beyond.iter().all(|byte| *byte == 2) && beyond.as_ptr().addr().is_multiple_of(64));
    }

    #[test]
    fn little_is_lost_to_rounding() {
        for size in [OWN_PAGES, OWN_PAGES + 1, 1_000_000, 5 << 20, (64 << 20) + 1] {
            let room = room(size);
            assert!(room >= size && room <= size + size / STEPS + (4 << 10), "{size} {room}");
        }
    }

    #[test]
    fn a_body_is_counted_as_it_comes_and_once_for_all_who_hold_it() {
        let budget: Arc<dyn MemoryBudget> = Budget::new(16 << 20);
        let memory = Memory::of_server(Some(Arc::clone(&budget)), SystemClock::shared());
        let used = || (16 << 20) - budget.spare();
        let receiving = memory.receiving();
        let mut body = receiving.body(8 << 20, true).unwrap();
        assert_eq!(used(), 0, "a length is only a claim");
        assert_eq!((body.lacks(), used()), (None, 2 << 20));
        assert_eq!(body.fill(&vec![1; 9 << 20]), 2 << 20, "no more than is counted");
        drop(body);
        assert_eq!(used(), 0);
        let body = receive(&memory, &vec![1; 8 << 20], 1 << 20);
        let slice = body.slice(..1);
        drop(body);
        assert_eq!(used(), 8 << 20, "a slice keeps all of it");
        drop(slice);
        assert_eq!(used(), 0);
        // What was used before takes its memory at once, unless there is too little.
        let again = receiving.body(8 << 20, true).unwrap();
        assert_eq!(used(), 8 << 20);
        drop(again);
        assert!(budget.try_take(9 << 20));
        let mut fresh = receiving.body(8 << 20, true).unwrap();
        assert_eq!((used(), memory.idle_bytes()), (9 << 20, 0));
        for piece in [2 << 20, 2 << 20, 2 << 20] {
            assert_eq!(fresh.lacks(), None);
            assert_eq!(fresh.fill(&vec![0; piece]), piece);
        }
        assert_eq!(fresh.lacks(), Some(2 << 20));
    }
}
