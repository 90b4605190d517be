//! Limits of a partitioner.

use super::ChunkCompression;
use crate::error::Error;

/// A message of more could not be addressed with the offsets of strings.
const MAX_CHUNK_BYTES: usize = 1 << 30;

/// Limits of a [`Partitioner`](super::Partitioner).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionerOptions {
    /// Bytes of a message body at which it is sealed. A single row that is
    /// larger is a message by itself; of types that are put together at the
    /// end (lists, structs, dictionaries and such) it may be up to twice as much.
    pub chunk_bytes: usize,
    /// Rows at which a message is sealed.
    pub chunk_rows: usize,
    /// Bytes of all that is open, and of the memory of messages that were let go,
    /// which the next ones are made of. A ninth is for those (less where a chunk
    /// needs it): over the rest, the fullest partition is sealed.
    pub memory_bytes: usize,
    /// Of the bodies of messages.
    pub compression: ChunkCompression,
}

impl Default for PartitionerOptions {
    /// 4 MiB, 1,048,576 rows, 72 MiB, no compression.
    ///
    /// More memory makes the messages of many partitions larger, but new pages
    /// cost more than the rows that are copied there: on a busy virtual machine
    /// 256 MiB took seven times as long as 64.
    fn default() -> Self {
        PartitionerOptions {
            chunk_bytes: 4 << 20,
            chunk_rows: 1 << 20,
            memory_bytes: 72 << 20,
            compression: ChunkCompression::None,
        }
    }
}

impl PartitionerOptions {
    /// What may be open.
    pub(super) fn open_bytes(&self) -> usize {
        (self.memory_bytes - self.memory_bytes / 9).max(self.chunk_bytes)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let option = |option, value, allowed| Err(Error::Option { option, value, allowed });
        if self.chunk_bytes == 0 || self.chunk_bytes > MAX_CHUNK_BYTES {
            return option("chunk_bytes", self.chunk_bytes, format!("1 to {MAX_CHUNK_BYTES}"));
        }
        if self.chunk_rows == 0 || self.chunk_rows > MAX_CHUNK_BYTES {
            return option("chunk_rows", self.chunk_rows, format!("1 to {MAX_CHUNK_BYTES}"));
        }
        if self.memory_bytes < self.chunk_bytes {
            let allowed = format!("{} (chunk_bytes) and more", self.chunk_bytes);
            return option("memory_bytes", self.memory_bytes, allowed);
        }
        Ok(())
    }
}
