//! The log of a node, on disk: entries, the vote, what is committed.
//!
//! A directory holds segments, files of whole records in the order they were
//! written; nothing in them is ever changed. Each record has a version and a
//! checksum and says where it lies and up to where the log was on disk when it
//! was made. So a torn write at the end, which nobody was told of, is known from
//! damage to what was acknowledged: the first is cut off at open, the second is
//! refused. Damage to the very last write before a crash cannot be told from
//! a torn one.
//!
//! 1. `append` calls back after its entries are on disk. The vote, truncation and
//!    purging are on disk when their calls return; what is committed is written
//!    at once, and on disk with the next of these.
//! 2. After a write that failed, a full disk included, nothing more is written:
//!    each later call fails with the same error, and the node stops. Opened
//!    again, the log has all that was acknowledged.
//! 3. Purging removes the files of which no entry is left. Each segment begins
//!    with what the log was by then, so none needs the ones before.
//! 4. In memory are 24 bytes an entry, and the newest entries up to a limit.
//!
//! The record of each entry is `sheaf.raft.v1.LogRecord`; see `raft.proto`.

mod directory;
#[cfg(feature = "planted-bugs")]
mod driven;
mod error;
mod frame;
mod options;
mod read;
mod recovery;
mod state;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use directory::Identity;
pub(crate) use directory::sync_directory;
pub use error::Error;
pub(crate) use error::is_full;
#[cfg(feature = "planted-bugs")]
pub use options::PlantedBug;
pub use options::{Flush, Options};
pub use store::{LogStore, Status};
