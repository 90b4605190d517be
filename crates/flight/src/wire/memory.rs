//! Memory for the bodies of messages: aligned as Arrow wants it, used again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// Bodies begin at multiples of this, as Arrow recommends.
pub(super) const ALIGNMENT: usize = 64;

/// From this size on a body has pages of its own, which are used again; below,
/// the allocator is as good at that.
const OWN_PAGES: usize = 128 << 10;

/// Free pages that are kept for the next body; more goes back to the system.
const MAX_IDLE: usize = 64 << 20;

/// Sizes of pages are rounded up to one of so many between two powers of two:
/// what was one body fits another, and at most a sixteenth is lost.
const STEPS: usize = 16;

/// Hands out memory for bodies, and keeps what comes back.
///
/// New pages cost the system more than copying into them does, so that those
/// of a body that is gone serve the next one. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    idle: Arc<Mutex<Idle>>,
}

/// Pages that nobody uses, by size.
#[derive(Default)]
struct Idle {
    pages: BTreeMap<usize, Vec<MmapMut>>,
    bytes: usize,
}

impl Memory {
    /// Room for a body of so many bytes; of large ones only what is written to
    /// takes memory.
    ///
    /// # Errors
    /// What the system says where it has no more.
    pub(super) fn body(&self, size: usize) -> io::Result<Body> {
        if size < OWN_PAGES {
            let mut bytes: Vec<u8> = Vec::with_capacity(size + ALIGNMENT);
            let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
            bytes.resize(start, 0);
            return Ok(Body { place: Place::Heap { bytes, start }, size, filled: 0 });
        }
        let room = room(size);
        let known = {
            // Pages are moved in and out whole: a panic leaves nothing half done.
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.take(room)
        };
        let pages = match known {
            Some(pages) => pages,
            None => MmapMut::map_anon(room)?,
        };
        let pages = Pages { pages: Some(pages), home: self.clone() };
        Ok(Body { place: Place::Pages(pages), size, filled: 0 })
    }

    fn put_back(&self, pages: MmapMut) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + pages.len() <= MAX_IDLE {
            idle.bytes += pages.len();
            idle.pages.entry(pages.len()).or_default().push(pages);
        }
    }

    /// Bytes that are kept for later.
    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl Idle {
    fn take(&mut self, room: usize) -> Option<MmapMut> {
        let of_size = self.pages.get_mut(&room)?;
        let pages = of_size.pop();
        if of_size.is_empty() {
            self.pages.remove(&room);
        }
        self.bytes -= pages.as_ref().map_or(0, |pages| pages.len());
        pages
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
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
    home: Memory,
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.home.put_back(pages);
        }
    }
}

impl Body {
    /// Whether nothing of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

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
        let memory = Memory::default();
        let sizes = [0, 1, 63, 64, 65, 1_000, OWN_PAGES - 1, OWN_PAGES, OWN_PAGES + 1, 3 << 20];
        for size in sizes {
            let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let got = receive(&memory, &sent, 16 << 10);
            assert_eq!(got, sent);
            assert_eq!(got.as_ptr() as usize % ALIGNMENT, 0, "{size}");
        }
    }

    #[test]
    fn pages_serve_the_next_body_and_hold_nothing_of_the_last_one() {
        let memory = Memory::default();
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

    #[test]
    fn what_is_kept_is_bounded_and_little_is_lost_to_rounding() {
        let memory = Memory::default();
        let many: Vec<Bytes> = (0..80).map(|_| memory.body(1 << 20).unwrap()).map(|body| {
            let mut body = body;
            body.fill(&vec![1; 1 << 20]);
            body.finish()
        }).collect();
        drop(many);
        assert!(memory.idle_bytes() <= MAX_IDLE);
        for size in [OWN_PAGES, OWN_PAGES + 1, 1_000_000, 5 << 20, (64 << 20) + 1] {
            let room = room(size);
            assert!(room >= size && room <= size + size / STEPS + (4 << 10), "{size} {room}");
        }
    }
}
