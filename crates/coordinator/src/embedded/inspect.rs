//! Looks into the file of a coordinator that nobody has open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message as _;
use redb::{
    ReadOnlyDatabase, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::{Code, Timestamp};

use super::disk::{self, BATCHES, META, META_KEY, QUEUES};
use crate::contract::Error;
use crate::engine::{Damage, RECORD_VERSION, decode_record};
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
/// [`Code::DirectoryLocked`] where a coordinator has it, [`Code::FormatNewer`],
/// [`Code::Corrupt`] where it is no file of a coordinator, or not a whole one;
/// [`Code::Io`].
pub fn inspect(path: &Path, mut visit: impl FnMut(StoredBatch)) -> Result<Inspected, Error> {
    // The library checks its file with assertions in places.
    let read = catch_unwind(AssertUnwindSafe(|| run(path, &mut visit)));
    read.unwrap_or_else(|_| Err(damaged(path, "it is no whole database")))
}

fn damaged(path: &Path, why: &str) -> Error {
    let operation = format!("read {}: {why}", path.display());
    Error::Backend { operation, code: Code::Corrupt, source: None }
}

fn run(path: &Path, visit: &mut impl FnMut(StoredBatch)) -> Result<Inspected, Error> {
    let failed = |error: redb::Error| Error::Backend {
        operation: format!("read {}", path.display()),
        code: disk::code(&error),
        source: Some(Box::new(error)),
    };
    let newer = |version: u32| Error::Backend {
        operation: format!(
            "{} has records of version {version}, this build knows up to {RECORD_VERSION}",
            path.display()
        ),
        code: Code::FormatNewer,
        source: None,
    };
    let database = ReadOnlyDatabase::open(path).map_err(|error| failed(error.into()))?;
    let read = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = read.open_table(META).map_err(|error| failed(error.into()))?;
    let meta = meta.get(META_KEY).map_err(|error| failed(error.into()))?;
    let meta = meta.and_then(|value| CoordinatorMeta::decode(value.value()).ok());
    let meta = meta.ok_or_else(|| damaged(path, "it does not say that it is whole"))?;
    if meta.version > RECORD_VERSION {
        return Err(newer(meta.version));
    }
    let queues = read.open_table(QUEUES).map_err(|error| failed(error.into()))?;
    let mut found = Inspected {
        version: meta.version,
        at: Timestamp::from_micros(meta.last_now),
        batches: 0,
        live: 0,
        damaged: 0,
        queues: queues.len().map_err(|error| failed(error.into()))?,
        last_fence: Fence(meta.last_fence),
    };
    let batches = read.open_table(BATCHES).map_err(|error| failed(error.into()))?;
    for entry in batches.iter().map_err(|error| failed(error.into()))? {
        let (sequence, value) = entry.map_err(|error| failed(error.into()))?;
        found.batches += 1;
        match stored(sequence.value(), value.value()) {
            Ok(Some(batch)) => {
                found.live += u64::from(!batch.state.is_terminal());
                visit(batch);
            }
            Err(Damage::Newer(version)) => return Err(newer(version)),
            Ok(None) | Err(Damage::Corrupt { .. }) => found.damaged += 1,
        }
    }
    Ok(found)
}

/// `None` where the record is whole and says nothing that makes sense.
fn stored(sequence: u64, bytes: &[u8]) -> Result<Option<StoredBatch>, Damage> {
    let batch = decode_record(sequence, bytes)?.batch.unwrap_or_default();
    let Some(spec) = batch.spec else { return Ok(None) };
    let (id, state) = (BatchId::try_new(&spec.id), State::from_wire(batch.state));
    let (Ok(id), Ok(state)) = (id, state) else { return Ok(None) };
    Ok(Some(StoredBatch { id, state, locations: spec.locations }))
}
