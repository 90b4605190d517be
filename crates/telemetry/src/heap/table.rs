//! The samples whose memory is in use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Calls that are kept of each stack, from the allocation outward.
const DEPTH: usize = 40;
/// The calls of the profiler itself, which nobody wants to see, at most.
const OWN: usize = 12;
/// So many counts, each for the addresses that share it.
const COUNTS: usize = 1 << 16;
/// More than any heap has at its period.
const MOST: usize = 1 << 20;

/// How many samples there are of the addresses of each count: most of what is freed
/// is found here not to be one.
static FILTER: [AtomicU16; COUNTS] = [const { AtomicU16::new(0) }; COUNTS];

static LIVE: LazyLock<Mutex<HashMap<usize, Sampling>>> = LazyLock::new(Mutex::default);

/// One allocation.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    pub(super) size: usize,
    /// Addresses of calls, the innermost first.
    pub(super) stack: Vec<usize>,
}

fn live() -> MutexGuard<'static, HashMap<usize, Sampling>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_of(address: usize) -> Option<&'static AtomicU16> {
    let mixed = (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    FILTER.get(mixed % COUNTS)
}

/// Whether an address may be that of a sample.
pub(super) fn may_have(address: usize) -> bool {
    count_of(address).is_some_and(|count| count.load(Ordering::Acquire) > 0)
}

/// A new sample.
pub(super) fn put(address: usize, size: usize) {
    let mut stack = Vec::with_capacity(DEPTH);
    backtrace::trace(|frame| {
        stack.push(frame.ip().addr());
        stack.len() < DEPTH + OWN
    });
    let mut live = live();
    if live.len() < MOST
        && live.insert(address, Sampling { size, stack }).is_none()
        && let Some(count) = count_of(address)
    {
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// Its memory is given back.
pub(super) fn remove(address: usize) {
    let removed = live().remove(&address);
    if removed.is_some()
        && let Some(count) = count_of(address)
    {
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All that are in use now.
pub(super) fn all() -> Vec<Sampling> {
    live().values().cloned().collect()
}
