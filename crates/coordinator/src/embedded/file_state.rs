//! A look at the file of a coordinator that is not running, which changes
//! nothing in it.

use std::path::Path;

use super::read::{self, Unread};
use crate::contract::Error;
use crate::engine::RECORD_VERSION;
use crate::migration::Phase;

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
    /// Its state is being moved, or was: no coordinator opens it.
    Migrating(Phase),
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
    /// [`Error::Backend`] with [`Code::FormatNewer`](sheaf_retry::Code::FormatNewer) where a newer version
    /// wrote it, [`Code::Corrupt`](sheaf_retry::Code::Corrupt) where it is damaged or something else,
    /// [`Code::Io`](sheaf_retry::Code::Io) where it cannot be read.
    pub fn of(path: &Path) -> Result<Self, Error> {
        State::looked_at(path, MAX_CHECKED)
    }

    /// As [`State::of`], but only counts.
    ///
    /// # Errors
    /// As [`State::of`].
    pub fn counted(path: &Path) -> Result<Self, Error> {
        State::looked_at(path, 0)
    }

    fn looked_at(path: &Path, most: u64) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(State::Absent);
        }
        let found = match read::read(path, most, &mut |_| ()) {
            Ok(found) => found,
            Err(Unread::InUse(_)) => return Ok(State::InUse),
            Err(Unread::NotClosed(_)) => return Ok(State::NotClosed),
            Err(Unread::Failed(error)) => return Err(error),
        };
        let meta = found.meta.unwrap_or_default();
        if let Some(migration) = meta.migration {
            return Ok(State::Migrating(Phase::from_stored(migration)?));
        }
        let (version, epoch) = (meta.version, meta.epoch);
        Ok(State::Closed(Inspection {
            version,
            epoch,
            batches: found.batches,
            queues: found.queues,
            quarantined: found.quarantined,
            checked: found.checked,
            damaged: found.damaged,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::disk::{META, META_KEY};
    use crate::embedded::{Config, Embedded, inspect};
    use crate::{BatchSpec, Coordinator as _};
    use prost::Message as _;
    use sheaf_proto::storage::v1::CoordinatorMeta;
    use sheaf_retry::{Code, Retryable as _, SystemClock};

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
        // Both ways of looking at a file read it alike.
        let again = inspect(&path, |_| ()).unwrap_err();
        assert_eq!((again.code(), again.to_string()), (error.code(), error.to_string()));
    }
}
