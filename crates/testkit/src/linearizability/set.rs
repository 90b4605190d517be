//! Which operations a configuration has placed.

/// Bits of a word.
const BITS: usize = 64;

/// A set of numbers that grows and shrinks.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    words: Vec<u64>,
    /// How many words at the beginning are full.
    full: usize,
}

/// A [`Set`] as it is remembered: without the full words at its beginning and the
/// empty ones at its end. What is placed is nearly always a beginning of the
/// history and a little more, so that this has a word or two however long it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trimmed {
    full: usize,
    words: Box<[u64]>,
}

impl Set {
    pub(super) fn insert(&mut self, number: usize) {
        let word = number / BITS;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % BITS);
        while self.words.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        let word = number / BITS;
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !(1 << (number % BITS));
            self.full = self.full.min(word);
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    pub(super) fn trimmed(&self) -> Trimmed {
        Trimmed { full: self.full, words: self.words[self.full..].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: impl IntoIterator<Item = usize>) -> Set {
        let mut set = Set::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }

    #[test]
    fn equal_sets_are_remembered_as_equal() {
        let mut grown = set([1, 2, 200]);
        grown.remove(200);
        assert_eq!(grown.trimmed(), set([2, 1]).trimmed());
        assert_ne!(set([1]).trimmed(), set([65]).trimmed());
        assert_ne!(set(0..64).trimmed(), set(0..128).trimmed());
        assert_ne!(set(64..128).trimmed(), set(0..64).trimmed());
    }

    #[test]
    fn a_long_beginning_takes_no_room() {
        let trimmed = set((0..64_000).chain([64_003])).trimmed();
        assert_eq!((trimmed.full, trimmed.words.len()), (1000, 1));
        let with_a_gap = set((0..640).filter(|number| *number != 70)).trimmed();
        assert_eq!((with_a_gap.full, with_a_gap.words.len()), (1, 9));
    }
}
