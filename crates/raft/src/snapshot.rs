//! Snapshots of a state machine: files of record batches that any Arrow reads.
//!
//! A file is an Arrow IPC stream and, behind its end where readers stop, a tail
//! with the stream's length and hash. What it is a snapshot of stands in the
//! metadata of its schema (`sheaf.raft.snapshot`: a `SnapshotHead` in hexadecimal).
//!
//! 1. A file is written under another name, synced, renamed, and the directory
//!    synced: whatever happens meanwhile, the snapshots before are whole. What is
//!    left of one that was not finished is removed at open.
//! 2. Two are kept. Where the newer one is damaged the other is used, if the log
//!    still has all entries after it (the engine's `max_in_snapshot_log_to_keep`
//!    says how many stay); else the node is refused to start.
//! 3. None is ever in memory whole: one record batch when it is built or
//!    restored, one chunk when it is sent or received.
//! 4. A snapshot from another node is used after its length, hash, version and
//!    cluster were checked, and not before.

mod error;
mod file;
mod id;
mod incoming;
mod store;
mod tail;
mod write;

pub use error::Error;
pub use file::{Batches, SnapshotFile};
pub use id::{InvalidSnapshotId, SnapshotId};
pub use incoming::IncomingSnapshot;
pub use store::{Options, Snapshots};
pub(crate) use write::{Head, SnapshotWriter};

#[cfg(test)]
mod tests;
