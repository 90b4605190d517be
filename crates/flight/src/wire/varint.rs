//! Protobuf's numbers of varying length.

use bytes::BufMut;

/// The most bytes that a 64-bit number takes.
const MAX: usize = 10;

/// Appends a number.
pub(super) fn put(mut value: u64, to: &mut impl BufMut) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "less than 0x80")]
    to.put_u8(value as u8);
}

/// Bytes that a number takes.
pub(super) fn size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// What the first bytes of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A number, and how many bytes it took.
    Number(u64, usize),
    /// The beginning of one.
    Short,
    /// More bytes than any number takes.
    Wrong,
}

/// Reads the number that a slice begins with.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(MAX).enumerate() {
        if at == MAX - 1 && byte > 1 {
            return Read::Wrong;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Read::Number(value, at + 1);
        }
    }
    if bytes.len() >= MAX { Read::Wrong } else { Read::Short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_prost_writes_them() {
        for value in [0, 1, 127, 128, 8_002, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            put(value, &mut ours);
            prost::encoding::encode_varint(value, &mut theirs);
            assert_eq!((&ours, size(value)), (&theirs, theirs.len()));
            assert_eq!(read(&ours), Read::Number(value, ours.len()));
            assert_eq!(read(&ours[..ours.len() - 1]), Read::Short);
        }
        assert_eq!(read(&[0xff; 10]), Read::Wrong);
        assert_eq!(read(&[0x80; 9]), Read::Short);
    }
}
