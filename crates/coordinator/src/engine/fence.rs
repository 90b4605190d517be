//! Tokens that never repeat, and chance that is the same at every replay.

use sheaf_retry::Timestamp;

use crate::model::Fence;

/// Bits of a token below the epoch.
pub const TIME_BITS: u32 = 44;
/// Greatest epoch: a coordinator can be opened this often.
pub const MAX_EPOCH: u64 = (1 << (64 - TIME_BITS)) - 1;

/// Makes the tokens of one epoch.
#[derive(Debug)]
pub(super) struct Fences {
    epoch: u64,
    last: u64,
}

impl Fences {
    pub(super) fn new(epoch: u64) -> Self {
        Fences { epoch: epoch.min(MAX_EPOCH), last: 0 }
    }

    /// Greater than every one before; at least the time in milliseconds.
    pub(super) fn next(&mut self, now: Timestamp) -> u64 {
        let floor = now.as_millis() & ((1 << TIME_BITS) - 1);
        self.last = floor.max(self.last + 1);
        (self.epoch << TIME_BITS) + self.last
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn last(&self) -> Fence {
        Fence((self.epoch << TIME_BITS) + self.last)
    }

    /// Tokens of this epoch go on above `last`.
    pub(super) fn raise(&mut self, last: u64) {
        if last >> TIME_BITS == self.epoch {
            self.last = self.last.max(last & ((1 << TIME_BITS) - 1));
        }
    }
}

/// FNV-1a with a final mix: the same everywhere and in every version, for what is
/// replayed or compared.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Between 0 and 1, decided by batch and attempt alone.
pub(super) fn unit(id: &str, attempt: u32) -> f64 {
    let seed = hash(id.as_bytes()) ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash(&seed.to_le_bytes()) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_ascend_though_time_stands_still_or_goes_back() {
        let mut fences = Fences::new(3);
        let mut last = 0;
        for millis in [1_000, 1_000, 999, 5, 2_000] {
            let next = fences.next(Timestamp::from_millis(millis));
            assert!(next > last);
            last = next;
        }
        assert!(Fences::new(4).next(Timestamp::EPOCH) > last);
    }

    #[test]
    fn chance_is_the_same_again_and_spread() {
        assert_eq!(unit("a", 1).to_bits(), unit("a", 1).to_bits());
        let mean = (0..1_000).map(|n| unit("batch", n)).sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
