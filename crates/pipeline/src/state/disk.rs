//! The file: records by id, nothing that can be derived.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError, WriteTransaction,
};
use sheaf_retry::Code;

use super::record::{self, Damage};
use crate::registry::{Component, Error, Key, Pipeline, Registry};

const COMPONENTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("components");
const PIPELINES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("pipelines");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// Bytes that were no record, by the table and the name that they had.
const QUARANTINE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("quarantine");
const META_KEY: &str = "control";

/// Records that are kept aside at most; further ones are reported only.
const MAX_QUARANTINE: u64 = 1_000;
const CACHE_BYTES: usize = 4 << 20;
/// Bits of a fence below its epoch.
const FENCE_BITS: u32 = 32;

/// A record that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// `components/ID`, `pipelines/ID` or `meta/control`.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was in a file.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// All that could be read.
    pub(crate) pipelines: Vec<Pipeline>,
    /// All that could be read.
    pub(crate) components: Vec<Component>,
    /// What could not, and was kept aside.
    pub(crate) damaged: Vec<Damaged>,
    /// Higher than that of every fence before.
    pub(crate) epoch: u32,
}

/// Opens the file, again after a failed write.
pub type Opener = Arc<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// See the module.
pub(crate) struct Disk {
    path: PathBuf,
    opener: Opener,
    epoch: u32,
    /// Not there after a failed write, until it could be opened again.
    database: Option<Database>,
}

struct Raw {
    table: &'static str,
    name: String,
    bytes: Vec<u8>,
}

impl Disk {
    /// Opens the file, reads it, and has a new epoch in it before it returns.
    pub(crate) fn open(path: PathBuf) -> Result<(Disk, Found), Error> {
        let name = path.clone();
        let open = move || Database::builder().set_cache_size(CACHE_BYTES).create(&name);
        Disk::open_with(path, Arc::new(open))
    }

    /// As [`Disk::open`], by other means; `path` is for messages.
    pub(crate) fn open_with(path: PathBuf, opener: Opener) -> Result<(Disk, Found), Error> {
        let mut disk = Disk { path, opener, epoch: 0, database: None };
        disk.reopen()?;
        let all = disk.read().map_err(|error| disk.failed("read", error))?;
        let mut found = Found::default();
        let mut spoiled = Vec::new();
        let mut epoch = 0;
        for raw in all {
            let taken = match raw.table {
                "meta" => record::read_meta(&raw.bytes).map(|stored| epoch = epoch.max(stored)),
                "pipelines" => {
                    record::read_pipeline(&raw.bytes).map(|read| found.pipelines.push(read))
                }
                _ => record::read_component(&raw.bytes).map(|read| {
                    // Where the epoch itself is damaged, fences say how high it was.
                    epoch = epoch.max(read.fence >> FENCE_BITS);
                    found.components.push(read);
                }),
            };
            match taken {
                Ok(()) => {}
                Err(Damage::Newer(version)) => return Err(disk.newer(&raw, version)),
                Err(Damage::Corrupt(why)) => {
                    let name = format!("{}/{}", raw.table, raw.name);
                    tracing::error!(file = %disk.path.display(), record = name, why, "a stored record cannot be read: it is left out, its bytes go to quarantine");
                    found.damaged.push(Damaged { name, why });
                    spoiled.push(raw);
                }
            }
        }
        found.epoch = u32::try_from(epoch.saturating_add(1)).map_err(|_| {
            let operation = format!("open {}: it was opened too often", disk.path.display());
            Error::State { operation, code: Code::FailedPrecondition, source: None }
        })?;
        disk.epoch = found.epoch;
        disk.begin(found.epoch, &spoiled).map_err(|error| disk.failed("write", error))?;
        Ok((disk, found))
    }

    fn newer(&self, raw: &Raw, version: u32) -> Error {
        let (path, known) = (self.path.display(), record::RECORD_VERSION);
        let operation = format!(
            "open {path}: {}/{} is of version {version}, this build knows up to {known}",
            raw.table, raw.name
        );
        Error::State { operation, code: Code::FormatNewer, source: None }
    }

    /// The library checks its file with assertions in places: a damaged file must
    /// not take the process down.
    fn reopen(&mut self) -> Result<(), Error> {
        self.database = None;
        match catch_unwind(AssertUnwindSafe(|| (self.opener)())) {
            Ok(Ok(database)) => {
                self.database = Some(database);
                Ok(())
            }
            Ok(Err(error)) => Err(self.failed("open", error)),
            Err(_) => {
                Err(Error::State { operation: self.no_state(), code: Code::Corrupt, source: None })
            }
        }
    }

    fn no_state(&self) -> String {
        format!(
            "open {}: it is damaged, or no state of a control plane; move it away to start with none",
            self.path.display()
        )
    }

    fn failed(&self, doing: &str, error: impl Into<redb::Error>) -> Error {
        let error = error.into();
        let code = code(&error);
        let operation = match (doing, code) {
            ("open", Code::Corrupt) => self.no_state(),
            ("open", Code::DirectoryLocked) => {
                format!("open {}: another control plane has it", self.path.display())
            }
            _ => format!("{doing} {}", self.path.display()),
        };
        Error::State { operation, code, source: Some(Box::new(error)) }
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// Everything in it, pipelines before components.
    fn read(&self) -> Result<Vec<Raw>, redb::Error> {
        let read = self.database()?.begin_read()?;
        let mut all = Vec::new();
        let tables = [("meta", META), ("pipelines", PIPELINES), ("components", COMPONENTS)];
        for (name, definition) in tables {
            let table = match read.open_table(definition) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in table.iter()? {
                let (key, value) = entry?;
                let (key, bytes) = (key.value().to_owned(), value.value().to_vec());
                all.push(Raw { table: name, name: key, bytes });
            }
        }
        Ok(all)
    }

    fn begin(&self, epoch: u32, spoiled: &[Raw]) -> Result<(), redb::Error> {
        let write = self.database()?.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            let mut components = write.open_table(COMPONENTS)?;
            let mut pipelines = write.open_table(PIPELINES)?;
            let mut aside = write.open_table(QUARANTINE)?;
            for raw in spoiled {
                match raw.table {
                    "components" => drop(components.remove(&*raw.name)?),
                    "pipelines" => drop(pipelines.remove(&*raw.name)?),
                    _ => {}
                }
                if redb::ReadableTableMetadata::len(&aside)? < MAX_QUARANTINE {
                    let name = format!("{}/{}/{epoch}", raw.table, raw.name);
                    aside.insert(&*name, &*raw.bytes)?;
                }
            }
            meta.insert(META_KEY, &*record::meta(epoch))?;
        }
        write.commit()?;
        Ok(())
    }

    /// Makes the records of `keys` durable as they are in `registry`, all or none.
    ///
    /// After a failure the file is opened again at the next call.
    pub(crate) fn commit<'a>(
        &mut self,
        registry: &Registry,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<(), Error> {
        if self.database.is_none() {
            self.take_up_again()?;
        }
        let written = self.write(registry, keys);
        written.map_err(|error| {
            let error = self.failed("write", error);
            // A failed write leaves the handle unusable. Another one is had at once, so
            // that nobody else gets the file.
            if let Err(again) = self.take_up_again() {
                tracing::debug!(error = %again, "the state file cannot be opened again yet");
            }
            error
        })
    }

    /// Opens the file again, if it is what it was: without it nothing kept others from it.
    fn take_up_again(&mut self) -> Result<(), Error> {
        self.reopen()?;
        let all = self.read().map_err(|error| self.failed("read", error))?;
        let meta = all.iter().find(|raw| raw.table == "meta");
        let stored = meta.and_then(|raw| record::read_meta(&raw.bytes).ok());
        if stored == Some(u64::from(self.epoch)) {
            return Ok(());
        }
        self.database = None;
        let path = self.path.display();
        let operation =
            format!("open {path}: another control plane had it meanwhile; end this one");
        Err(Error::State { operation, code: Code::FailedPrecondition, source: None })
    }

    fn write<'a>(
        &self,
        registry: &Registry,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<(), redb::Error> {
        let write = self.database()?.begin_write()?;
        keys.into_iter().try_for_each(|key| put(&write, registry, key))?;
        write.commit()?;
        Ok(())
    }
}

fn put(write: &WriteTransaction, registry: &Registry, key: &Key) -> Result<(), redb::Error> {
    let (definition, id, bytes) = match key {
        Key::Component(id) => {
            let component = registry.component(id).ok();
            (COMPONENTS, id, component.and_then(|found| record::component(found)))
        }
        Key::Pipeline(id) => {
            let pipeline = registry.pipeline(id).ok();
            (PIPELINES, id, pipeline.map(|found| record::pipeline(found)))
        }
    };
    let mut table = write.open_table(definition)?;
    match bytes {
        Some(bytes) => drop(table.insert(&**id, &*bytes)?),
        None => drop(table.remove(&**id)?),
    }
    Ok(())
}

fn code(error: &redb::Error) -> Code {
    match error {
        redb::Error::DatabaseAlreadyOpen => Code::DirectoryLocked,
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
            // Too short, or of other content than the library writes.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Code::Corrupt,
            _ => Code::Io,
        },
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => Code::Corrupt,
        redb::Error::UpgradeRequired(_) => Code::FormatNewer,
        _ => Code::Io,
    }
}
