//! A look at the file of a coordinator that is not running, which changes
//! nothing in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message as _;
use redb::{
    Builder, DatabaseError, ReadOnlyDatabase, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableError,
};
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::Code;

use super::disk::{BATCHES, META, META_KEY, QUARANTINE, QUEUES, code};
use crate::contract::Error;
use crate::engine::{Damage, RECORD_VERSION, decode_record};

/// Memory for pages while a file is looked at.
const CACHE_BYTES: usize = 16 << 20;
/// Most records that are read and checked; the rest is counted.
const MAX_CHECKED: u64 = 100_000;

/// What the file of a coordinator holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Version of the records in it; 0 where nothing was stored yet.
    pub version: u32,
    /// How often it was opened.
    pub epoch: u64,
    /// Registered batches.
    pub batches: u64,
    /// Queues with settings of their own.
    pub queues: u64,
    /// Records that could not be read at an earlier start and were kept aside.
    pub quarantined: u64,
    /// Records that were read now; the others were only counted.
    pub checked: u64,
    /// Of these, the ones that cannot be used: they would become failed batches.
    pub damaged: u64,
}

/// How a file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none yet.
    Absent,
    /// A coordinator has it open.
    InUse,
    /// Its coordinator did not close it: the next start puts it in order first.
    NotClosed,
    /// It was closed in good order, and this is in it.
    Closed(Inspection),
}

impl State {
    /// The newest version of records that this build reads.
    pub const VERSION: u32 = RECORD_VERSION;

    /// Looks at a file, for which it is locked against writers meanwhile; a
    /// second or two for 100,000 batches, more are only counted.
    ///
    /// # Errors
    /// [`Error::Backend`] with [`Code::FormatNewer`] where a newer version
    /// wrote it, [`Code::Corrupt`] where it is damaged or something else,
    /// [`Code::Io`] where it cannot be read.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(State::Absent);
        }
        let failed = |error: redb::Error| Error::Backend {
            operation: format!("read {}", path.display()),
            code: code(&error),
            source: Some(Box::new(error)),
        };
        // The library checks its file with assertions in places.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = Builder::new().set_cache_size(CACHE_BYTES).open_read_only(path);
            database.map(|database| read(&database))
        }));
        let newer = |version: u32| Error::Backend {
            operation: format!(
                "{} has records of version {version}, this build knows up to {RECORD_VERSION}",
                path.display()
            ),
            code: Code::FormatNewer,
            source: None,
        };
        match opened {
            Ok(Ok(Ok(Found::Newer(version)))) => Err(newer(version)),
            Ok(Ok(Ok(Found::Known(found)))) if found.version > RECORD_VERSION => {
                Err(newer(found.version))
            }
            Ok(Ok(Ok(Found::Known(found)))) => Ok(State::Closed(found)),
            Ok(Ok(Err(error))) => Err(failed(error)),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Ok(State::InUse),
            Ok(Err(DatabaseError::RepairAborted)) => Ok(State::NotClosed),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(_) => Err(Error::Backend {
                operation: format!("read {}: it is damaged", path.display()),
                code: Code::Corrupt,
                source: None,
            }),
        }
    }
}

enum Found {
    Known(Inspection),
    Newer(u32),
}

fn read(database: &ReadOnlyDatabase) -> Result<Found, redb::Error> {
    let mut found = Inspection::default();
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(table) => {
            if let Some(bytes) = table.get(META_KEY)? {
                let meta = CoordinatorMeta::decode(bytes.value())
                    .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
                (found.version, found.epoch) = (meta.version, meta.epoch);
            }
        }
        // Made, and nothing stored.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Found::Known(found)),
        Err(error) => return Err(error.into()),
    }
    if found.version > RECORD_VERSION {
        return Ok(Found::Newer(found.version));
    }
    found.queues = read.open_table(QUEUES)?.len()?;
    match read.open_table(QUARANTINE) {
        Ok(table) => found.quarantined = table.len()?,
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let batches = read.open_table(BATCHES)?;
    found.batches = batches.len()?;
    for entry in batches.iter()? {
        if found.checked >= MAX_CHECKED {
            break;
        }
        let (sequence, value) = entry?;
        found.checked += 1;
        match decode_record(sequence.value(), value.value()) {
            Ok(_) => {}
            Err(Damage::Newer(version)) => return Ok(Found::Newer(version)),
            Err(Damage::Corrupt { .. }) => found.damaged += 1,
        }
    }
    Ok(Found::Known(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Config, Embedded};
    use crate::{BatchSpec, Coordinator as _};
    use sheaf_retry::{Retryable as _, SystemClock};

    #[tokio::test]
    async fn a_file_is_seen_absent_in_use_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.redb");
        assert_eq!(State::of(&path).unwrap(), State::Absent);
        let coordinator =
            Embedded::open(Config::disk(path.clone()), SystemClock::shared()).unwrap();
        coordinator.register(vec![BatchSpec::new("a".parse().unwrap())]).await.unwrap();
        assert_eq!(State::of(&path).unwrap(), State::InUse);
        coordinator.close().await.unwrap();
        let before = std::fs::read(&path).unwrap();
        let State::Closed(found) = State::of(&path).unwrap() else { panic!("it is closed") };
        assert_eq!((found.version, found.batches, found.checked), (RECORD_VERSION, 1, 1));
        assert_eq!((found.epoch, found.damaged, found.quarantined), (1, 0, 0));
        assert!(std::fs::read(&path).unwrap() == before, "a look changes nothing");

        std::fs::write(&path, "no database").unwrap();
        assert_eq!(State::of(&path).unwrap_err().code(), Code::Corrupt);
    }

    #[test]
    fn newer_records_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.redb");
        drop(Embedded::open(Config::disk(path.clone()), SystemClock::shared()).unwrap());
        let database = redb::Database::open(&path).unwrap();
        let write = database.begin_write().unwrap();
        let meta = CoordinatorMeta { version: 99, epoch: 1, ..CoordinatorMeta::default() };
        write.open_table(META).unwrap().insert(META_KEY, meta.encode_to_vec().as_slice()).unwrap();
        write.commit().unwrap();
        drop(database);
        let error = State::of(&path).unwrap_err();
        assert_eq!(error.code(), Code::FormatNewer);
        assert!(error.to_string().contains("version 99"), "{error}");
    }
}
