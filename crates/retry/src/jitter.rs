//! Where the randomness of a delay comes from: a seed, and nothing else.

/// A seeded stream of numbers in `[0, 1)`: SplitMix64.
///
/// The same seed gives the same numbers on every platform and in every
/// version, so that a schedule can be worked out again elsewhere (by a replica
/// that replays a log, or from the seed that a failing test has printed). It
/// spreads load; it is no source of secrets.
///
/// The `n`-th number needs none of those before it ([`Jitter::at`]).
///
/// # Source
/// Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*,
/// OOPSLA 2014; constants as in Java's `SplittableRandom`.
///
/// ```
/// use sheaf_retry::Jitter;
///
/// let mut jitter = Jitter::new(7);
/// assert_eq!(jitter.next_unit(), Jitter::at(7, 0));
/// assert_eq!(jitter.next_unit(), Jitter::at(7, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter {
    state: u64,
}

/// The odd number closest to 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Jitter {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Self {
        Jitter { state: seed }
    }

    /// A seed from a name, such as a batch id: FNV-1a, 64 bits.
    pub const fn seed_of(name: &str) -> u64 {
        let bytes = name.as_bytes();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        hash
    }

    /// The next number of the stream, 0 included, 1 not.
    pub const fn next_unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(GAMMA);
        unit(mix(self.state))
    }

    /// Number `index` (from 0) of the stream of `seed`.
    pub const fn at(seed: u64, index: u32) -> f64 {
        let steps = (index as u64).wrapping_add(1);
        unit(mix(seed.wrapping_add(GAMMA.wrapping_mul(steps))))
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The upper 53 bits, which are all that an `f64` below 1 can hold evenly.
const fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of the reference implementation for this seed.
    #[test]
    fn agrees_with_the_reference() {
        let expected =
            [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for (index, bits) in (1..).zip(expected) {
            assert_eq!(mix(1_234_567_u64.wrapping_add(GAMMA.wrapping_mul(index))), bits);
        }
    }

    #[test]
    fn names_hash_as_published() {
        assert_eq!(Jitter::seed_of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Jitter::seed_of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Jitter::seed_of("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn numbers_are_spread_over_the_whole_range() {
        let mut buckets = [0_u32; 10];
        let mut jitter = Jitter::new(1);
        for _ in 0..10_000 {
            let unit = jitter.next_unit();
            assert!((0.0..1.0).contains(&unit));
            let bucket = (0..10_u32).rposition(|tenth| unit * 10.0 >= f64::from(tenth)).unwrap();
            buckets[bucket] += 1;
        }
        assert!(buckets.iter().all(|&count| (850..1150).contains(&count)), "{buckets:?}");
    }
}
