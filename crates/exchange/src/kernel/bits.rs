//! Bits that are appended one run after the other.

use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};

use super::grow;
use super::lane::Block;

/// A growing bitmap.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// Fills up with ones to `len` bits.
    pub(super) fn pad(&mut self, len: usize) {
        while self.len < len {
            let (used, more) = (self.len % 64, len - self.len);
            if used == 0 {
                self.words.push(0);
            }
            let take = more.min(64 - used);
            let ones = if take == 64 { u64::MAX } else { (1 << take) - 1 };
            if let Some(last) = self.words.last_mut() {
                *last |= ones << used;
            }
            self.len += take;
        }
    }

    /// Appends the bits of `rows`.
    pub(super) fn append(&mut self, source: &BooleanBuffer, rows: &[u32]) {
        let mut used = self.len % 64;
        let mut word = if used == 0 { 0 } else { self.words.pop().unwrap_or(0) };
        for row in rows {
            word |= u64::from(source.value(*row as usize)) << used;
            used += 1;
            if used == 64 {
                self.words.push(word);
                (word, used) = (0, 0);
            }
        }
        if used > 0 {
            self.words.push(word);
        }
        self.len += rows.len();
    }

    fn reserve(&mut self, more: usize, limit: usize) -> usize {
        let words = (self.len + more).div_ceil(64) - self.words.len();
        grow::reserve(&mut self.words, words, limit.div_ceil(64))
    }

    pub(super) fn held(&self) -> usize {
        grow::held(&self.words)
    }

    pub(super) fn take(&mut self) -> BooleanBuffer {
        let Bits { words, len } = std::mem::take(self);
        BooleanBuffer::new(Buffer::from_vec(words), 0, len)
    }
}

/// Bitmaps of each partition. As validity they are shorter than their values
/// where the last of those are all valid.
#[derive(Debug)]
pub(super) struct Bitmaps {
    parts: Vec<Bits>,
    limit: usize,
}

impl Bitmaps {
    pub(super) fn new(partitions: usize, limit: usize) -> Self {
        Bitmaps { parts: (0..partitions).map(|_| Bits::default()).collect(), limit }
    }

    /// Appends the rows of a block; gives the bytes that this took.
    pub(super) fn append(&mut self, source: &BooleanBuffer, block: &Block<'_>) -> usize {
        let mut grown = 0;
        for partition in block.plan.touched() {
            let (bits, rows) = (&mut self.parts[partition], block.plan.rows(partition));
            let behind = block.before[partition] - bits.len;
            grown += bits.reserve(behind + rows.len(), self.limit);
            bits.pad(block.before[partition]);
            bits.append(source, rows);
        }
        grown
    }

    /// Appends validity; where all are valid, nothing is there to do.
    pub(super) fn append_nulls(&mut self, nulls: Option<&NullBuffer>, block: &Block<'_>) -> usize {
        match nulls.filter(|nulls| nulls.null_count() > 0) {
            None => 0,
            Some(nulls) => self.append(nulls.inner(), block),
        }
    }

    /// The bitmap of a partition, and the bytes that it has.
    pub(super) fn take(&mut self, partition: usize, rows: usize) -> (BooleanBuffer, usize) {
        let bits = &mut self.parts[partition];
        let held = bits.held();
        bits.pad(rows);
        (bits.take(), held)
    }

    /// The validity of a partition, none where no value is null.
    pub(super) fn take_nulls(
        &mut self,
        partition: usize,
        rows: usize,
    ) -> (Option<NullBuffer>, usize) {
        if self.parts[partition].len == 0 {
            return (None, 0);
        }
        let (bits, held) = self.take(partition, rows);
        (Some(NullBuffer::new(bits)).filter(|nulls| nulls.null_count() > 0), held)
    }
}

#[cfg(test)]
mod tests {
    use arrow_buffer::BooleanBuffer;

    use super::Bits;

    #[test]
    fn runs_and_padding_follow_each_other_over_the_ends_of_words() {
        let source = BooleanBuffer::collect_bool(100, |row| row % 3 == 0);
        let (mut bits, mut expected) = (Bits::default(), Vec::new());
        for (rows, padding) in [(0..5, 0), (5..70, 1), (20..84, 64), (7..8, 200), (0..0, 3)] {
            let rows: Vec<u32> = rows.collect();
            bits.append(&source, &rows);
            expected.extend(rows.iter().map(|row| row % 3 == 0));
            expected.extend(std::iter::repeat_n(true, padding));
            bits.pad(expected.len());
        }
        assert_eq!(bits.take().iter().collect::<Vec<_>>(), expected);
        assert_eq!(bits.take().len(), 0);
    }
}
