//! Chunks on disk: files of a process that makes room in its memory.
//!
//! ```text
//! spill.lock       held by the process that writes here
//! NUMBER.spill     chunks of one query, removed with the last of them
//! ```
//!
//! A file begins with 64 bytes: `SHEAFSPL`, and the version of the format, a
//! little-endian u32. Each chunk begins at a multiple of 64 bytes: its body, its
//! header, and four bytes that say how long the header is. Where a chunk is, how
//! long it is and its CRC32C is known in memory only: what a process has spilled
//! is of no use to the next one, which removes it when it opens the directory.

mod directory;
mod file;

pub(super) use directory::SpillDirectory;
pub(super) use file::SpillFile;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
pub(in crate::shuffle) mod tests;
