//! What is behind the record batches: how long they are, and their hash.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use prost::Message as _;
use sheaf_proto::raft::v1 as proto;
use twox_hash::XxHash3_64;

/// The version of snapshots that this build writes.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"SHEAFSNP";
/// `length of the tail, its checksum, magic`.
const END_BYTES: u64 = 16;
const MAX_TAIL_BYTES: u64 = 64 << 10;
/// Bytes that are hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// The tail as it stands in the file.
pub(super) fn encode(tail: &proto::SnapshotTail) -> Vec<u8> {
    let mut bytes = tail.encode_to_vec();
    let checksum = crc32c::crc32c(&bytes);
    // A tail has six numbers.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&MAGIC);
    bytes
}

/// Reads the tail of a file of `bytes`; a message where it is not whole.
pub(super) fn read(file: &File, bytes: u64) -> io::Result<Result<proto::SnapshotTail, String>> {
    let Some(end_at) = bytes.checked_sub(END_BYTES) else {
        return Ok(Err(format!("it has {bytes} bytes")));
    };
    let mut end = [0; 16];
    file.read_exact_at(&mut end, end_at)?;
    let number = |at: usize| u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]);
    if end[8..] != MAGIC {
        return Ok(Err("it does not end as a snapshot does".to_owned()));
    }
    let length = u64::from(number(0));
    let Some(at) = end_at.checked_sub(length).filter(|_| length <= MAX_TAIL_BYTES) else {
        return Ok(Err(format!("its tail has {length} bytes")));
    };
    let mut tail = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut tail, at)?;
    if crc32c::crc32c(&tail) != number(4) {
        return Ok(Err("its tail does not match its checksum".to_owned()));
    }
    match proto::SnapshotTail::decode(tail.as_slice()) {
        Ok(tail) if tail.version <= VERSION && tail.content_bytes != at => {
            Ok(Err(format!("it has {at} bytes of content, and not {}", tail.content_bytes)))
        }
        Ok(tail) => Ok(Ok(tail)),
        Err(error) => Ok(Err(format!("its tail cannot be read: {error}"))),
    }
}

/// The hash of the first `bytes`.
pub(super) fn hash(file: &File, bytes: u64) -> io::Result<u64> {
    let mut hasher = XxHash3_64::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        file.read_exact_at(&mut piece[..length], at)?;
        std::hash::Hasher::write(&mut hasher, &piece[..length]);
        at += length as u64;
    }
    Ok(std::hash::Hasher::finish(&hasher))
}

/// Reads a file from a place of its own, whoever else reads it.
pub(super) struct Reader<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File, end: u64) -> Reader<'a> {
        Reader { file, at: 0, end }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let count = self.file.read_at(&mut into[..length], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
