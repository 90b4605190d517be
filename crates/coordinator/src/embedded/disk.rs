//! The database file: records by order of registration, nothing else; what
//! can be derived lives in memory and is rebuilt at open.

use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prost::Message as _;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::{CoordinatorMeta, QueueRecord};
use sheaf_retry::{Code, Timestamp};

use super::upgrade::upgrade;
use crate::contract::Error;
use crate::engine::{Damage, Effects, Engine, MAX_EPOCH, RECORD_VERSION};
use crate::migration::Phase;

pub(super) const BATCHES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");
pub(super) const QUEUES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("queues");
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// Bytes that were no record, by their number.
pub(super) const QUARANTINE: TableDefinition<'static, u64, &[u8]> =
    TableDefinition::new("quarantine");
pub(super) const META_KEY: &str = "coordinator";

/// Written and removed again before work resumes after a failure.
const PROBE_BYTES: usize = 256 << 10;

/// Epochs between a coordinator and a copy of it.
pub(super) const COPY_LEAP: u64 = 1_024;
/// Copies that are opened in different hours differ in their epoch.
const EPOCH_OF_COPIES_MS: u64 = 3_600_000;

/// Opens the database, again after a failed write.
pub type Opener = Arc<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// See the module.
pub(super) struct Disk {
    open: Opener,
    name: String,
    database: Option<Database>,
    pub(super) epoch: u64,
    /// Records whose state in memory must be read back.
    stale: Vec<u64>,
    stale_queues: Vec<String>,
    /// The last write failed: try a small one before anything is promised.
    suspect: bool,
    scratch: Vec<u8>,
    value: Vec<u8>,
}

/// One that no coordinator ever had.
pub(super) fn new_run() -> u64 {
    // The keys of the hasher are random.
    RandomState::new().hash_one(META_KEY).max(1)
}

/// Of a new file.
pub(super) fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(BATCHES)?;
    write.open_table(QUEUES)?;
    write.open_table(META)?;
    write.open_table(QUARANTINE)?;
    write.commit()?;
    Ok(())
}

/// The epoch that an opening of the file takes.
pub(super) fn next_epoch(meta: &CoordinatorMeta, now: Timestamp) -> u64 {
    // The original may have been opened since, and other copies of it.
    let floor = if meta.copied_at > 0 { now.as_millis() / EPOCH_OF_COPIES_MS } else { 0 };
    meta.epoch.max(floor).saturating_add(1)
}

/// A later version wrote it.
pub(super) fn newer(name: &dyn std::fmt::Display, version: u32) -> Error {
    let operation =
        format!("{name} has records of version {version}, this build knows up to {RECORD_VERSION}");
    Error::Backend { operation, code: Code::FormatNewer, source: None }
}

pub(super) fn code(error: &redb::Error) -> Code {
    match error {
        redb::Error::DatabaseAlreadyOpen => Code::DirectoryLocked,
        redb::Error::Io(error)
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            Code::DiskFull
        }
        // Too short, or of other content than the library writes.
        redb::Error::Io(error)
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Code::Corrupt
        }
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => Code::Corrupt,
        redb::Error::UpgradeRequired(_) => Code::FormatNewer,
        _ => Code::Io,
    }
}

impl Disk {
    /// Opens the file and fills `engine` from it, under a new epoch that is
    /// on disk before this returns.
    pub(super) fn open(
        open: Opener,
        name: String,
        make: impl FnOnce(u64) -> Engine,
        now: Timestamp,
    ) -> Result<(Disk, Engine), Error> {
        let mut disk = Disk {
            open,
            name,
            database: None,
            epoch: 0,
            stale: Vec::new(),
            stale_queues: Vec::new(),
            suspect: false,
            scratch: Vec::new(),
            value: Vec::new(),
        };
        disk.reopen()?;
        let mut meta = disk.prepare()?;
        if meta.version > RECORD_VERSION {
            return Err(disk.newer(meta.version));
        }
        if let Some(migration) = meta.migration.take()
            && let Some(refusal) = Phase::from_stored(migration)?.refusal(&disk.name)
        {
            return Err(refusal);
        }
        upgrade(disk.database()?, &disk.name, &mut meta)
            .map_err(|error| disk.failed("bring on the records of", error))?;
        disk.epoch = next_epoch(&meta, now);
        if disk.epoch > MAX_EPOCH {
            let operation =
                format!("open {}: it was opened {MAX_EPOCH} times, its limit", disk.name);
            return Err(Error::Backend { operation, code: Code::FailedPrecondition, source: None });
        }
        let mut engine = make(disk.epoch);
        engine.load_meta(&meta);
        let is_whole = disk.load(&mut engine, now)?;
        engine.begin_run(new_run(), is_whole);
        let effects = engine.take_effects();
        disk.write(&engine, &effects)?;
        engine.renew_leases(now);
        Ok((disk, engine))
    }

    fn failed(&self, doing: &str, error: impl Into<redb::Error>) -> Error {
        let error = error.into();
        let code = code(&error);
        let operation = match (doing, code) {
            ("open", Code::Corrupt) => self.no_database(),
            _ => format!("{doing} {}", self.name),
        };
        Error::Backend { operation, code, source: Some(Box::new(error)) }
    }

    fn no_database(&self) -> String {
        format!(
            "open {}: it is damaged, or no database of a coordinator; put a copy of the file in its place, or move it away to start with no batch registered",
            self.name
        )
    }

    fn newer(&self, version: u32) -> Error {
        newer(&self.name, version)
    }

    /// The library checks its file with assertions in places: a damaged file
    /// must not take the process down.
    fn reopen(&mut self) -> Result<(), Error> {
        self.database = None;
        let opened = catch_unwind(AssertUnwindSafe(|| (self.open)()));
        match opened {
            Ok(Ok(database)) => {
                self.database = Some(database);
                Ok(())
            }
            Ok(Err(error)) => Err(self.failed("open", error)),
            Err(_) => Err(Error::Backend {
                operation: self.no_database(),
                code: Code::Corrupt,
                source: None,
            }),
        }
    }

    fn database(&self) -> Result<&Database, Error> {
        self.database.as_ref().ok_or_else(|| Error::Backend {
            operation: format!("write {}: it could not be opened again", self.name),
            code: Code::Io,
            source: None,
        })
    }

    /// Makes the tables where they are missing, and reads what was stored last.
    fn prepare(&self) -> Result<CoordinatorMeta, Error> {
        let run = || -> Result<Option<Vec<u8>>, redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let read = database.begin_read()?;
            match read.open_table(META) {
                Ok(table) => return Ok(table.get(META_KEY)?.map(|meta| meta.value().to_vec())),
                Err(TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
            make_tables(database)?;
            Ok(None)
        };
        let bytes = run().map_err(|error| self.failed("open", error))?;
        let Some(bytes) = bytes else { return Ok(CoordinatorMeta::default()) };
        CoordinatorMeta::decode(bytes.as_slice()).map_err(|error| Error::Backend {
            operation: format!("read the state of {}", self.name),
            code: Code::Corrupt,
            source: Some(Box::new(error)),
        })
    }

    /// Whether every batch is there that was stored, by its name.
    fn load(&self, engine: &mut Engine, now: Timestamp) -> Result<bool, Error> {
        let reading = |error: redb::Error| self.failed("read", error);
        let read = self.database()?.begin_read().map_err(|error| reading(error.into()))?;
        let queues = read.open_table(QUEUES).map_err(|error| reading(error.into()))?;
        let mut turns = Vec::new();
        for entry in queues.iter().map_err(|error| reading(error.into()))? {
            let (name, value) = entry.map_err(|error| reading(error.into()))?;
            turns.extend(self.load_queue(engine, name.value(), value.value())?);
        }
        let batches = read.open_table(BATCHES).map_err(|error| reading(error.into()))?;
        let mut damaged: Vec<(u64, Option<BatchId>, String, Vec<u8>)> = Vec::new();
        for entry in batches.iter().map_err(|error| reading(error.into()))? {
            let (sequence, value) = entry.map_err(|error| reading(error.into()))?;
            match engine.load(sequence.value(), value.value()) {
                Ok(()) => {}
                Err(Damage::Newer(version)) => return Err(self.newer(version)),
                Err(Damage::Corrupt { id, why }) => {
                    damaged.push((sequence.value(), id, why, value.value().to_vec()));
                }
            }
        }
        let mut is_whole = true;
        for (sequence, id, why, bytes) in damaged {
            tracing::error!(
                sequence,
                id = id.as_ref().map(tracing::field::display),
                why,
                "a stored batch cannot be read: it goes to failed, its bytes to quarantine"
            );
            is_whole &= engine.load_damaged(sequence, id.as_ref(), &why, now)?;
            self.quarantine(sequence, &bytes).map_err(|error| self.failed("write", error))?;
        }
        turns.iter().for_each(|record| engine.load_turns(record));
        engine.finish_load();
        Ok(is_whole)
    }

    /// Answers the record where it says whose turn it is.
    fn load_queue(
        &self,
        engine: &mut Engine,
        name: &str,
        bytes: &[u8],
    ) -> Result<Option<QueueRecord>, Error> {
        match QueueRecord::decode(bytes) {
            Ok(record) if record.version > RECORD_VERSION => Err(self.newer(record.version)),
            Ok(record) if record.queue == name => {
                engine.load_queue(&record)?;
                Ok(Some(record).filter(|record| !record.turns.is_empty()))
            }
            Ok(_) | Err(_) => {
                tracing::error!(queue = name, "a stored queue cannot be read: it starts anew");
                let queue = name.to_owned();
                engine.load_queue(&QueueRecord { queue, ..QueueRecord::default() })?;
                Ok(None)
            }
        }
    }

    fn quarantine(&self, sequence: u64, bytes: &[u8]) -> Result<(), redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let write = database.begin_write()?;
        write.open_table(QUARANTINE)?.insert(sequence, bytes)?;
        write.commit()?;
        Ok(())
    }

    /// Makes the effects durable. After an error the caller must call
    /// [`Disk::heal`] before the engine is used again.
    pub(super) fn commit(&mut self, engine: &Engine, effects: &Effects) -> Result<(), Error> {
        let written = self.write(engine, effects);
        if written.is_err() {
            self.suspect = true;
            self.stale.extend(&effects.written);
            self.stale.extend(&effects.removed);
            self.stale_queues.extend(effects.queues.iter().cloned());
        }
        written
    }

    fn write(&mut self, engine: &Engine, effects: &Effects) -> Result<(), Error> {
        let (mut scratch, mut value) =
            (std::mem::take(&mut self.scratch), std::mem::take(&mut self.value));
        let mut run = || -> Result<(), redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let write = database.begin_write()?;
            {
                let mut batches = write.open_table(BATCHES)?;
                // In order of the keys the pages of the tree are touched once.
                let mut written = effects.written.clone();
                written.sort_unstable();
                for sequence in written {
                    value.clear();
                    if engine.encode(sequence, &mut scratch, &mut value) {
                        batches.insert(sequence, value.as_slice())?;
                    }
                }
                for sequence in &effects.removed {
                    batches.remove(sequence)?;
                }
            }
            if !effects.queues.is_empty() {
                let mut queues = write.open_table(QUEUES)?;
                for name in &effects.queues {
                    if let Some(value) = engine.encode_queue(name) {
                        queues.insert(name.as_str(), value.as_slice())?;
                    }
                }
            }
            let meta = engine.meta(self.epoch).encode_to_vec();
            write.open_table(META)?.insert(META_KEY, meta.as_slice())?;
            write.commit()?;
            Ok(())
        };
        let result = run();
        (self.scratch, self.value) = (scratch, value);
        result.map_err(|error| self.failed("write", error))
    }

    /// After a failed write: opens the file again, puts what the engine had
    /// ahead of it back to what is stored, and tries whether writing works.
    pub(super) fn heal(&mut self, engine: &mut Engine) -> Result<(), Error> {
        if !self.suspect && self.database.is_some() {
            return Ok(());
        }
        self.reopen()?;
        self.restore(engine)?;
        if let Err(error) = self.probe() {
            // A failed write leaves the handle unusable; the state is whole.
            self.database = None;
            return Err(self.failed("write", error));
        }
        self.suspect = false;
        Ok(())
    }

    /// Whether the last write failed.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether the engine is what is stored, though writing may not work.
    pub(super) fn is_whole(&self) -> bool {
        self.stale.is_empty() && self.stale_queues.is_empty()
    }

    /// Brings the engine back to what is stored, without promising anything new.
    pub(super) fn roll_back(&mut self, engine: &mut Engine) -> Result<(), Error> {
        self.reopen()?;
        self.restore(engine)
    }

    fn restore(&mut self, engine: &mut Engine) -> Result<(), Error> {
        let mut read = || -> Result<(), redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let read = database.begin_read()?;
            let batches = read.open_table(BATCHES)?;
            // All are taken out first: two may have swapped an identifier.
            self.stale.iter().for_each(|sequence| engine.unload(*sequence));
            for sequence in &self.stale {
                if let Some(value) = batches.get(sequence)?
                    && let Err(damage) = engine.load(*sequence, value.value())
                {
                    return Err(redb::Error::Corrupted(format!("{damage:?}")));
                }
            }
            // Batches that went and came may have taken turns with them.
            self.stale_queues.extend(engine.take_effects().queues);
            let queues = read.open_table(QUEUES)?;
            for name in &self.stale_queues {
                let stored = queues.get(name.as_str())?;
                let stored = stored.and_then(|value| QueueRecord::decode(value.value()).ok());
                let record = stored.unwrap_or_else(|| QueueRecord {
                    queue: name.clone(),
                    ..QueueRecord::default()
                });
                // The queue is there already, so there is room for it.
                if let Err(error) = engine.load_queue(&record) {
                    return Err(redb::Error::Corrupted(error.to_string()));
                }
            }
            engine.finish_load();
            Ok(())
        };
        let result = read();
        result.map_err(|error| self.failed("read", error))?;
        self.stale.clear();
        self.stale_queues.clear();
        Ok(())
    }

    fn probe(&self) -> Result<(), redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let write = database.begin_write()?;
        write.open_table(QUARANTINE)?.insert(u64::MAX, vec![0_u8; PROBE_BYTES].as_slice())?;
        write.commit()?;
        let write = database.begin_write()?;
        write.open_table(QUARANTINE)?.remove(u64::MAX)?;
        write.commit()?;
        Ok(())
    }

    /// Writes the whole state in place of what is there.
    pub(super) fn snapshot(&mut self, engine: &Engine) -> Result<(), Error> {
        let (mut scratch, mut value) = (Vec::new(), Vec::new());
        let mut run = || -> Result<(), redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let write = database.begin_write()?;
            write.delete_table(BATCHES)?;
            write.delete_table(QUEUES)?;
            {
                let mut batches = write.open_table(BATCHES)?;
                for sequence in engine.sequences() {
                    value.clear();
                    if engine.encode(sequence, &mut scratch, &mut value) {
                        batches.insert(sequence, value.as_slice())?;
                    }
                }
                let mut queues = write.open_table(QUEUES)?;
                for name in engine.queue_names() {
                    if let Some(value) = engine.encode_queue(&name) {
                        queues.insert(name.as_str(), value.as_slice())?;
                    }
                }
            }
            let meta = engine.meta(self.epoch).encode_to_vec();
            write.open_table(META)?.insert(META_KEY, meta.as_slice())?;
            write.commit()?;
            Ok(())
        };
        run().map_err(|error| self.failed("write", error))
    }
}

/// Opens the file at `path`.
pub(super) fn file(path: std::path::PathBuf, cache_bytes: usize) -> Opener {
    Arc::new(move || {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        builder.create(&path)
    })
}
