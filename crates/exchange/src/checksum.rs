//! CRC32C (Castagnoli).
//!
//! Each byte of a shuffle passes here twice, at its sender and at its receiver. So
//! it is the library that folds with wide multiplications where the processor has
//! them: half the time of the instruction for CRC32C, in memory as in caches.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC32C of bytes that follow those of `crc`, which is 0 where there are none.
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    // What a digest goes on from is inverted, as its result is.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    // 32 bits by definition.
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::append;

    #[test]
    fn it_is_the_one_of_the_standard() {
        assert_eq!(append(0, b"123456789"), 0xe306_9283);
        // RFC 3720, B.4.
        assert_eq!(append(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(append(0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(append(0, &[]), 0);
    }

    #[test]
    fn it_is_the_same_as_another_library_says_of_any_length_and_cut() {
        let bytes: Vec<u8> = (0_u32..5_000).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect();
        for from in 0..9 {
            for size in (0..300).chain([1_023, 1_024, 1_025, 4_096, 4_990]) {
                let bytes = &bytes[from..from + size];
                let expected = crc32c::crc32c(bytes);
                assert_eq!(append(0, bytes), expected, "{from} {size}");
                let (head, tail) = bytes.split_at(size / 3);
                assert_eq!(append(append(0, head), tail), expected, "{from} {size}");
            }
        }
    }
}
