//! Looks into the file of a coordinator that nobody has open.

use std::path::Path;

use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use super::read;
use crate::contract::Error;
use crate::model::{Fence, State};

/// A batch as it is stored: what one needs to know to look for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its name.
    pub id: BatchId,
    /// What became of it.
    pub state: State,
    /// Where its payload is; nothing means beside the coordinator.
    pub locations: Vec<String>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Version of its records.
    pub version: u32,
    /// When it was last written, by the coordinator's time.
    pub at: Timestamp,
    /// Batches, terminal and damaged ones included.
    pub batches: u64,
    /// Of them those that are not over.
    pub live: u64,
    /// Of them those that cannot be read: they will be failed.
    pub damaged: u64,
    /// Queues.
    pub queues: u64,
    /// The last fencing token that was given out.
    pub last_fence: Fence,
}

/// Reads every batch of a file, in the order of registration, and changes
/// nothing: a copy stays one that was never opened. Blocks.
///
/// # Errors
/// [`Code::DirectoryLocked`](sheaf_retry::Code::DirectoryLocked) where a coordinator has it, [`Code::FormatNewer`](sheaf_retry::Code::FormatNewer),
/// [`Code::Corrupt`](sheaf_retry::Code::Corrupt) where it is no file of a coordinator, or not a whole one;
/// [`Code::Io`](sheaf_retry::Code::Io).
pub fn inspect(path: &Path, mut visit: impl FnMut(StoredBatch)) -> Result<Inspected, Error> {
    let mut live = 0;
    let found = read::read(path, u64::MAX, &mut |batch| {
        live += u64::from(!batch.state.is_terminal());
        visit(batch);
    })?;
    let meta = found.meta.ok_or_else(|| read::damaged(path, "it does not say that it is whole"))?;
    Ok(Inspected {
        version: meta.version,
        at: Timestamp::from_micros(meta.last_now),
        batches: found.batches,
        live,
        damaged: found.damaged,
        queues: found.queues,
        last_fence: Fence(meta.last_fence),
    })
}
