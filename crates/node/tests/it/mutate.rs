//! Random changes of inputs, for where libFuzzer is not.

/// Values that limits and lengths trip over.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'%'];
/// Longest input that is made.
const MAX_LENGTH: usize = 4_096;

/// A source of numbers: splitmix64. The same seed gives the same inputs.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A source that begins here.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, 0 where that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = (limit as u64).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// One of the seeds with one to eight changes.
pub(crate) fn mutated(seeds: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        change(&mut data, seeds, words, random);
    }
    data.truncate(MAX_LENGTH);
    data
}

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = random.below(data.len());
    let some = random.below(16).min(data.len() - at);
    match random.below(9) {
        0 | 1 if at < data.len() => data[at] ^= 1 << random.below(8),
        2 if at < data.len() => data[at] = random.byte(),
        3 if at < data.len() => data[at] = EDGES[random.below(EDGES.len())],
        4 => {
            data.drain(at..at + some);
        }
        5 => {
            let part = data[at..at + some].to_vec();
            let to = random.below(data.len());
            data.splice(to..to, part);
        }
        6 if !words.is_empty() => {
            let word = words[random.below(words.len())].bytes();
            data.splice(at..at, word);
        }
        7 => data.truncate(at),
        8 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        _ => data.push(random.byte()),
    }
}
