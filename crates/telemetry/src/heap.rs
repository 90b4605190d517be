//! Which parts of a program hold how much memory: a sample of its allocations.
//!
//! What has to hold:
//! - Until somebody asks for it, an allocation costs one load more than without.
//! - What is done for a sample may allocate: that is no sample, or it would wait
//!   for itself.
//! - A sample is forgotten before its memory can be somebody else's.

mod report;
mod table;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use report::heap_profile;

/// Bytes between two samples, on the average.
pub(crate) const PERIOD: usize = 512 << 10;

static IS_ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Bytes until the next sample, and the state of what draws that number.
    static LEFT: Cell<(i64, u64)> = const { Cell::new((0, 0)) };
    /// Whether this thread is at a sample.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// An allocator whose allocations are sampled from [`profile_heap`] on: one for
/// about every 512 KiB.
///
/// ```
/// use sheaf_telemetry::Sampled;
///
/// #[global_allocator]
/// static ALLOCATOR: Sampled<std::alloc::System> = Sampled::new(std::alloc::System);
/// ```
#[derive(Debug)]
pub struct Sampled<A> {
    inner: A,
}

impl<A> Sampled<A> {
    /// Allocates as `inner` does.
    pub const fn new(inner: A) -> Self {
        Sampled { inner }
    }
}

/// Samples allocations from now on, of a program whose allocator is a [`Sampled`].
/// The profile is at `/debug/pprof/heap` of the admin port.
pub fn profile_heap() {
    IS_ON.store(true, Ordering::Release);
}

/// Whether allocations are sampled.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Acquire)
}

// SAFETY: memory is what the inner allocator gives, for the same layouts; whatever is
// noted besides does not touch it.
#[allow(unsafe_code, reason = "an allocator is unsafe to write, and this one passes calls on")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Sampled<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of the same call.
        let memory = unsafe { self.inner.alloc(layout) };
        note(memory, layout.size());
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { self.inner.alloc_zeroed(layout) };
        note(memory, layout.size());
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        forget(memory);
        // SAFETY: as above.
        unsafe { self.inner.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        forget(memory);
        // SAFETY: as above.
        let moved = unsafe { self.inner.realloc(memory, layout, size) };
        note(moved, size);
        moved
    }
}

fn note(memory: *mut u8, size: usize) {
    if IS_ON.load(Ordering::Relaxed) && !memory.is_null() && is_due(size) {
        alone(|| table::put(memory.addr(), size));
    }
}

fn forget(memory: *mut u8) {
    if IS_ON.load(Ordering::Relaxed) && table::may_have(memory.addr()) {
        alone(|| table::remove(memory.addr()));
    }
}

/// Whether an allocation of this size is a sample: each byte is with the same
/// probability, so that the distance to the next is distributed exponentially.
fn is_due(size: usize) -> bool {
    let draw = |left: &Cell<(i64, u64)>| {
        let (until, seed) = left.get();
        let until = until.saturating_sub(i64::try_from(size).unwrap_or(i64::MAX));
        if until > 0 {
            left.set((until, seed));
            return false;
        }
        let (distance, next) = distance(seed, left.as_ptr().addr());
        left.set((distance, next));
        // The first one of a thread only says when the next one is.
        seed != 0
    };
    LEFT.try_with(draw).unwrap_or(false)
}

/// Bytes to the next sample, by a generator whose first state is `salt`.
fn distance(seed: u64, salt: usize) -> (i64, u64) {
    let mut state = if seed == 0 { (salt as u64) | 1 } else { seed };
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    #[allow(clippy::cast_precision_loss, reason = "a random number need not be exact")]
    let uniform = ((state >> 11) as f64 + 1.0) / ((1_u64 << 53) as f64 + 1.0);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as above")]
    let bytes = (-uniform.ln() * PERIOD as f64) as i64;
    (bytes.max(1), state)
}

/// Does it unless this thread is at something of the kind already.
fn alone(work: impl FnOnce()) {
    let busy = IS_BUSY.try_with(|busy| busy.replace(true));
    if busy == Ok(false) {
        work();
        IS_BUSY.try_with(|busy| busy.set(false)).ok();
    }
}
