//! Memory of chunks, and of what goes there.

/// Up to so many partitions, the run of one reads most of a block.
const FEW: usize = 4;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Lines that are asked for at once.
#[cfg(target_arch = "x86_64")]
const MOST: usize = 32;

/// The least that is taken at once.
const LEAST: usize = 64;

/// Makes room for `more` elements: for twice as many as there are, but for no
/// more than `limit` unless they are needed. Gives the bytes that this took.
pub(super) fn reserve<T>(memory: &mut Vec<T>, more: usize, limit: usize) -> usize {
    let before = memory.capacity();
    let needed = memory.len() + more;
    if needed <= before {
        return 0;
    }
    let wanted = (before * 2).max(LEAST);
    memory.reserve_exact(wanted.min(limit).max(needed) - memory.len());
    (memory.capacity() - before) * size_of::<T>()
}

/// What the next chunk may need, after one of `len`: a fourth more, so that one
/// which is a little longer does not have to be moved.
pub(super) fn hint(len: usize) -> usize {
    len + len / 4
}

/// How many rows the memory of values may be enough for, by those of `rows`.
pub(super) fn room(values: &Vec<u8>, rows: usize) -> usize {
    rows.saturating_mul(values.capacity()).checked_div(values.len()).unwrap_or(usize::MAX)
}

/// Looks at each line of a block that many runs will read parts of: that brings
/// it into the cache faster than they do. At 64 partitions it saves a seventh of
/// all, at 256 a fourth; at 2 it would cost a little.
pub(super) fn fetch(block: &[u8], partitions: usize) {
    if partitions > FEW {
        let (lines, _) = block.as_chunks::<LINE>();
        std::hint::black_box(lines.iter().fold(0, |all, line| all ^ line[0]));
    }
}

/// Asks for the lines of memory that will be written soon: at 64 partitions it saves
/// a fourteenth of all, at 256 a twelfth.
#[allow(unsafe_code, reason = "an instruction that has no other name")]
pub(super) fn prefetch<T>(memory: &[std::mem::MaybeUninit<T>]) {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = memory;
    #[cfg(target_arch = "x86_64")]
    for place in memory.chunks((LINE / size_of::<T>()).max(1)).take(MOST) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a hint that reads and writes nothing, to memory that is there.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(place.as_ptr().cast()) };
    }
}

/// Bytes of memory.
pub(super) fn held<T>(memory: &Vec<T>) -> usize {
    memory.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::{held, reserve};

    #[test]
    fn memory_grows_to_the_limit_and_beyond_only_for_what_is_there() {
        let mut memory: Vec<u64> = Vec::new();
        assert_eq!(reserve(&mut memory, 100, 150), 800);
        memory.resize(100, 0);
        assert_eq!(reserve(&mut memory, 1, 150), 400);
        memory.resize(150, 0);
        assert_eq!(reserve(&mut memory, 7, 150), 56);
        assert_eq!(held(&memory), 157 * 8);
        assert_eq!(reserve(&mut memory, 7, 150), 0);
    }
}
