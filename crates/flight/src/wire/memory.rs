//! Memory for the bodies of messages: aligned as Arrow wants it, used again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use memmap2::MmapMut;
use sheaf_retry::SharedClock;
use tokio::sync::Notify;

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
/// needed for so long.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(10);

/// Bodies with pages of their own at once. Linux allows a process 65,530
/// mappings, and a body can take two; beyond this the allocator has the others.
const MAX_OWN: usize = 8 << 10;

/// A large page, as most systems have them.
const HUGE_PAGE: usize = 2 << 20;

/// Sizes of pages are rounded up to one of so many between two powers of two:
/// what was one body fits another, and at most a sixteenth is lost.
const STEPS: usize = 16;

/// How many bytes of its memory a server does not use at the moment.
pub(crate) type Spare = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Hands out memory for bodies, and keeps what comes back.
///
/// New pages cost the system more than copying into them does, so that those
/// of a body that is gone serve the next one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory {
    idle: Arc<Mutex<Idle>>,
    idle_at_work: usize,
    spare: Option<Spare>,
    clock: SharedClock,
    /// Told when more is kept than at rest.
    kept: Arc<Notify>,
}

/// Pages that nobody uses, by the room in them; those of one size by the time
/// since when.
#[derive(Default)]
struct Idle {
    pages: BTreeMap<usize, VecDeque<(Duration, MmapMut)>>,
    bytes: usize,
    /// Mappings that there are, in use or not.
    mapped: usize,
    /// Streams that are being received.
    receivers: usize,
}

/// Says that a stream is being received, as long as it lives.
pub(super) struct Receiving(Memory);

impl Memory {
    /// The memory of a server; while it receives, pages are kept as far as
    /// there is memory to spare.
    pub(crate) fn of_server(spare: Option<Spare>, clock: SharedClock) -> Self {
        Memory::new(IDLE_AT_WORK, spare, clock)
    }

    /// The memory of a client.
    pub(crate) fn of_client(clock: SharedClock) -> Self {
        Memory::new(IDLE_IN_CLIENT, None, clock)
    }

    fn new(idle_at_work: usize, spare: Option<Spare>, clock: SharedClock) -> Self {
        let (idle, kept) = (Arc::default(), Arc::default());
        Memory { idle, idle_at_work, spare, clock, kept }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // Pages are moved in and out whole: a panic leaves nothing half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps more pages for later while it lives.
    pub(super) fn receiving(&self) -> Receiving {
        self.idle().receivers += 1;
        Receiving(self.clone())
    }

    /// Room for a body of so many bytes; of large ones only what is written to
    /// takes memory.
    ///
    /// # Errors
    /// What the system says where it has no more.
    pub(super) fn body(&self, size: usize) -> io::Result<Body> {
        let pages = if size < OWN_PAGES { None } else { self.pages(size) };
        let place = match pages {
            Some(pages) => Place::Pages(pages),
            None => heap(size)?,
        };
        Ok(Body { place, size, filled: 0 })
    }

    /// Pages of its own for a body, unless there are too many already, or the
    /// system gives none.
    fn pages(&self, size: usize) -> Option<Pages> {
        let room = room(size);
        let known = self.idle().take(room);
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

    /// Bytes that may be kept at work where so many more are needed.
    fn most(&self, needed: usize) -> usize {
        let spare = self.spare.as_ref().map_or(0, |spare| spare());
        let spare = usize::try_from(spare).unwrap_or(usize::MAX);
        self.idle_at_work.max(spare.saturating_sub(needed))
    }

    fn put_back(&self, room: usize, pages: MmapMut) {
        let (most, now) = (self.most(0), self.clock.elapsed());
        let mut idle = self.idle();
        // With something to spare they wait a while for the next stream.
        let at_work = idle.receivers > 0 || self.spare.is_some();
        let most = if at_work { most } else { IDLE_AT_REST };
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
        let mut surplus = Vec::new();
        let mut idle = self.idle();
        while idle.bytes > most {
            let Some(&largest) = idle.pages.keys().next_back() else { break };
            surplus.extend(idle.take(largest));
        }
        idle.mapped -= surplus.len();
        // Unmapped without keeping others waiting.
        drop(idle);
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

impl Drop for Receiving {
    fn drop(&mut self) {
        let at_rest = {
            let mut idle = self.0.idle();
            idle.receivers -= 1;
            idle.receivers == 0
        };
        if at_rest && self.0.spare.is_none() {
            self.0.trim(IDLE_AT_REST);
        }
    }
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
    place: Place,
    size: usize,
    filled: usize,
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

    /// Takes what it needs from the front of `bytes`; says how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.missing());
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

    /// The whole body, which nothing is missing of.
    pub(super) fn finish(self) -> Bytes {
        debug_assert_eq!(self.missing(), 0);
        match self.place {
            Place::Heap { bytes, start } => Bytes::from(bytes).slice(start..),
            Place::Pages(pages) => Bytes::from_owner(Whole { pages, size: self.size }),
        }
    }
}

/// Owner of a received body: its pages are used again once no slice of it is left.
struct Whole {
    pages: Pages,
    size: usize,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.pages.pages.as_deref().map_or(&[], |pages| &pages[..self.size])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use sheaf_retry::{ManualClock, SystemClock, Timestamp};

    use super::*;

    fn receive(memory: &Memory, sent: &[u8], piece: usize) -> Bytes {
        let mut body = memory.body(sent.len()).unwrap();
        for piece in sent.chunks(piece) {
            assert_eq!(body.fill(piece), piece.len());
        }
        assert_eq!(body.fill(b"more"), 0);
        body.finish()
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
        let spare = Arc::new(AtomicU64::new(60 << 20));
        let told = Arc::clone(&spare);
        let told: Spare = Arc::new(move || told.load(Ordering::Relaxed));
        let memory = Memory::of_server(Some(told), clock.clone());
        receive_many(&memory);
        assert_eq!(memory.idle_bytes(), 60 << 20);
        // Other sizes need room, and there is less of it.
        spare.store(50 << 20, Ordering::Relaxed);
        let other = receive(&memory, &vec![1; 1_000_000], 1_000_000);
        assert!(memory.idle_bytes() <= 50 << 20);
        drop(other);
        memory.give_back_old();
        assert!(memory.idle_bytes() > 48 << 20);
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
}
