//! Reads the file of a coordinator from outside, and changes nothing in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message as _;
use redb::{
    Builder, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, TableError,
};
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::Code;

use super::disk::{self, BATCHES, META, META_KEY, QUARANTINE, QUEUES};
use super::inspect::StoredBatch;
use crate::contract::Error;
use crate::engine::{Damage, RECORD_VERSION, decode_record};
use crate::model::State;

/// Memory for pages meanwhile: a look beside a server takes little from it.
const CACHE_BYTES: usize = 16 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` where nothing was stored yet.
    pub(super) meta: Option<CoordinatorMeta>,
    pub(super) batches: u64,
    pub(super) queues: u64,
    /// Records that were set aside at an earlier start.
    pub(super) quarantined: u64,
    /// Batches that were read; the others were only counted.
    pub(super) checked: u64,
    /// Of these, the ones that cannot be used.
    pub(super) damaged: u64,
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum Unread {
    /// A coordinator has it open.
    InUse(Error),
    /// It was not closed.
    NotClosed(Error),
    /// Anything else.
    Failed(Error),
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::InUse(error) | Unread::NotClosed(error) | Unread::Failed(error) => error,
        }
    }
}

enum Stop {
    Database(redb::Error),
    Newer(u32),
}

impl<E: Into<redb::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Database(error.into())
    }
}

/// Reads so many batches at most, in the order of registration, and counts the
/// rest. Blocks; the file is locked against writers meanwhile.
pub(super) fn read(
    path: &Path,
    most: u64,
    visit: &mut dyn FnMut(StoredBatch),
) -> Result<Found, Unread> {
    let failed = |error: redb::Error| Error::Backend {
        operation: format!("read {}", path.display()),
        code: disk::code(&error),
        source: Some(Box::new(error)),
    };
    // The library checks its file with assertions in places.
    let done = catch_unwind(AssertUnwindSafe(|| {
        let database = Builder::new().set_cache_size(CACHE_BYTES).open_read_only(path);
        database.map(|database| contents(&database, most, visit))
    }));
    match done {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(Stop::Newer(version)))) => {
            Err(Unread::Failed(disk::newer(&path.display(), version)))
        }
        Ok(Ok(Err(Stop::Database(error)))) => Err(Unread::Failed(failed(error))),
        Ok(Err(error)) => Err(match error {
            DatabaseError::DatabaseAlreadyOpen => Unread::InUse(failed(error.into())),
            DatabaseError::RepairAborted => Unread::NotClosed(failed(error.into())),
            error => Unread::Failed(failed(error.into())),
        }),
        Err(_) => Err(Unread::Failed(damaged(path, "it is no whole database"))),
    }
}

/// The file is not what it should be.
pub(super) fn damaged(path: &Path, why: &str) -> Error {
    let operation = format!("read {}: {why}", path.display());
    Error::Backend { operation, code: Code::Corrupt, source: None }
}

fn contents(
    database: &ReadOnlyDatabase,
    most: u64,
    visit: &mut dyn FnMut(StoredBatch),
) -> Result<Found, Stop> {
    let mut found = Found::default();
    let read = database.begin_read()?;
    // Made, and nothing stored.
    let Some(meta) = meta(&read)? else { return Ok(found) };
    if meta.version > RECORD_VERSION {
        return Err(Stop::Newer(meta.version));
    }
    found.meta = Some(meta);
    found.queues = read.open_table(QUEUES)?.len()?;
    match read.open_table(QUARANTINE) {
        Ok(table) => found.quarantined = table.len()?,
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let batches = read.open_table(BATCHES)?;
    found.batches = batches.len()?;
    for entry in batches.iter()? {
        if found.checked >= most {
            break;
        }
        let (sequence, value) = entry?;
        found.checked += 1;
        match stored(sequence.value(), value.value()) {
            Ok(Some(batch)) => visit(batch),
            Err(Damage::Newer(version)) => return Err(Stop::Newer(version)),
            Ok(None) | Err(Damage::Corrupt { .. }) => found.damaged += 1,
        }
    }
    Ok(found)
}

fn meta(read: &ReadTransaction) -> Result<Option<CoordinatorMeta>, Stop> {
    let table = match read.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = table.get(META_KEY)? else { return Ok(None) };
    let meta = CoordinatorMeta::decode(bytes.value());
    Ok(Some(meta.map_err(|error| redb::Error::Corrupted(error.to_string()))?))
}

/// `None` where the record is whole and says nothing that makes sense.
fn stored(sequence: u64, bytes: &[u8]) -> Result<Option<StoredBatch>, Damage> {
    let batch = decode_record(sequence, bytes)?.batch.unwrap_or_default();
    let Some(spec) = batch.spec else { return Ok(None) };
    let (id, state) = (BatchId::try_new(&spec.id), State::from_wire(batch.state));
    let (Ok(id), Ok(state)) = (id, state) else { return Ok(None) };
    Ok(Some(StoredBatch { id, state, locations: spec.locations }))
}
