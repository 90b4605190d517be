//! Where something happens to the bytes of a direction.

use super::link::{Fault, Noise};
use crate::random::Random;

/// Counts the bytes to the next place.
#[derive(Debug)]
pub(super) struct Places {
    /// Of the connection and direction.
    number: u64,
    of: Fault,
    random: Random,
    left: u64,
}

impl Places {
    pub(super) fn new(number: u64) -> Self {
        Places { number, of: Fault::None, random: Random(0), left: 0 }
    }

    /// How many of these bytes pass, and what happens after them, if something does. A
    /// fault that is new starts anew.
    pub(super) fn pass(&mut self, fault: Fault, bytes: usize) -> (usize, Option<Noise>) {
        let Fault::Noise { noise, one_in, seed } = fault else { return (bytes, None) };
        if self.of != fault {
            self.of = fault;
            self.random = Random(seed ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            self.left = gap(&mut self.random, one_in);
        }
        match usize::try_from(self.left) {
            Ok(left) if left < bytes => {
                self.left = gap(&mut self.random, one_in);
                (left, Some(noise))
            }
            _ => {
                self.left -= bytes as u64;
                (bytes, None)
            }
        }
    }

    /// Any bit of a byte.
    pub(super) fn bit(&mut self) -> u8 {
        1 << (self.random.below(8))
    }
}

/// At least 1, `one_in` on average.
fn gap(random: &mut Random, one_in: u64) -> u64 {
    1 + random.below(one_in.saturating_mul(2).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn places(seed: u64, number: u64, parts: &[usize]) -> Vec<usize> {
        let fault = Fault::Noise { noise: Noise::Flip, one_in: 100, seed };
        let (mut places, mut found, mut at) = (Places::new(number), Vec::new(), 0);
        for part in parts {
            let mut left = *part;
            while left > 0 {
                let (pass, noise) = places.pass(fault, left);
                at += pass;
                left -= pass;
                if noise.is_some() {
                    found.push(at);
                    // The place itself is passed by who does something to it.
                    at += 1;
                    left -= 1;
                }
            }
        }
        found
    }

    #[test]
    fn places_are_of_the_seed_and_the_direction_and_not_of_how_bytes_come() {
        let whole = places(7, 0, &[100_000]);
        assert!((800..1_200).contains(&whole.len()), "{}", whole.len());
        assert_eq!(places(7, 0, &[1; 100_000]), whole);
        assert_eq!(places(7, 0, &[333; 300]).as_slice(), &whole[..places(7, 0, &[99_900]).len()]);
        assert_ne!(places(8, 0, &[100_000]), whole);
        assert_ne!(places(7, 1, &[100_000]), whole);
    }

    #[test]
    fn loss_is_of_packets() {
        let stall = Noise::Stall(Duration::from_millis(200));
        let expected = Fault::Noise { noise: stall, one_in: 14_600, seed: 1 };
        assert_eq!(Fault::loss(100, 1), expected);
    }
}
