//! The hash of rows. **A format: it may never change.**
//!
//! Two processes that disagree about it send the halves of one key to different
//! workers. Golden values are committed in the tests; whoever needs another
//! hash gives it another name.
//!
//! All arithmetic is on unsigned 64-bit integers and wraps.
//!
//! - `mix(x)`: the finalizer of SplitMix64: `x ^= x >> 30; x *= 0xbf58476d1ce4e5b9;
//!   x ^= x >> 27; x *= 0x94d049bb133111eb; x ^= x >> 31`.
//! - `key = mix(seed + 0x9e3779b97f4a7c15)`.
//! - `number(x) = mix(x ^ key)`; `text(b)` is XXH3 with 64 bits and the seed `key`.
//! - `join(a, b) = mix(a * 0x9e3779b97f4a7c15 ^ b)`.
//!
//! | value | hash |
//! |---|---|
//! | null, also of type Null | `number(0x6e756c6c6e756c6c)` |
//! | integers, dates, times, timestamps, durations, intervals of months, booleans | `number` of the stored integer, extended to 64 bits with its sign |
//! | decimals | that of the unscaled integer: one that fits 64 bits as an integer does, else `number` of its lower 64 bits, joined with each further 64 of the 128 or 256 that it fits |
//! | floats | `number` of the bits as a 64-bit float, with -0.0 as 0.0 and every NaN as `0x7ff8000000000000` |
//! | text and binary, of fixed size too | `text` of the bytes |
//! | interval of days and milliseconds | `number` of the days in the lower, the milliseconds in the upper half |
//! | interval of months, days, nanoseconds | `number` of months and days in such halves, joined with `number` of the nanoseconds |
//! | lists, maps (as lists of entries in their order) | `number` of the length, joined with each element in turn |
//! | structs | `number` of the count of fields, joined with each field in turn |
//! | unions | that of the value in it |
//! | dictionaries and run-ends | that of the value |
//!
//! So equal values of different representations agree, and a number agrees
//! with the same one of another width. Units and scales are no part of it: a
//! timestamp in seconds differs from the same instant in milliseconds.
//! A row of several keys joins the hashes of the second and later ones to that
//! of the first. Its partition is `((hash >> 32) * partitions) >> 32`.

mod column;
mod nested;
mod wide;

use arrow_array::{Array, ArrayRef};
use arrow_schema::ArrowError;
use twox_hash::XxHash3_64;

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const NULL: u64 = 0x6e75_6c6c_6e75_6c6c;

/// The hash function of one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher {
    key: u64,
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
        Hasher { key: mix(seed.wrapping_add(ODD)) }
    }

    fn number(self, value: u64) -> u64 {
        mix(value ^ self.key)
    }

    fn text(self, value: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.key, value)
    }

    fn null(self) -> u64 {
        self.number(NULL)
    }

    /// The partitions of the rows of these columns, which are of one length.
    pub(crate) fn partitions(
        self,
        columns: &[ArrayRef],
        partitions: u32,
    ) -> Result<Vec<u32>, ArrowError> {
        let hashes = self.rows(columns)?;
        let mut ids = vec![0; hashes.len()];
        wide::map(&hashes, &mut ids, |hash| partition_of(hash, partitions));
        Ok(ids)
    }

    /// The hashes of the rows of these columns, which are of one length.
    pub(crate) fn rows(self, columns: &[ArrayRef]) -> Result<Vec<u64>, ArrowError> {
        let Some((first, others)) = columns.split_first() else { return Ok(Vec::new()) };
        let mut hashes = self.array(first.as_ref())?;
        for column in others {
            for (hash, other) in hashes.iter_mut().zip(self.array(column.as_ref())?) {
                *hash = join(*hash, other);
            }
        }
        Ok(hashes)
    }

    /// The hash of each value.
    fn array(self, array: &dyn Array) -> Result<Vec<u64>, ArrowError> {
        let mut hashes = vec![0; array.len()];
        column::hash(self, array, &mut hashes)?;
        if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
            for (hash, valid) in hashes.iter_mut().zip(nulls) {
                if !valid {
                    *hash = self.null();
                }
            }
        }
        Ok(hashes)
    }
}

/// Every bit of the input reaches every bit of the output, which is as good as
/// random; different inputs have different outputs.
#[inline]
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[inline]
const fn join(first: u64, second: u64) -> u64 {
    mix(first.wrapping_mul(ODD) ^ second)
}

/// The partition of a hash: its place in the range of all hashes.
///
/// The high bits decide, so that a hash table that uses the low ones finds
/// those of the rows of one partition evenly spread.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "a product of two 32-bit numbers, shifted by 32"
)]
pub(crate) const fn partition_of(hash: u64, partitions: u32) -> u32 {
    (((hash >> 32) * partitions as u64) >> 32) as u32
}

#[cfg(test)]
mod tests;
