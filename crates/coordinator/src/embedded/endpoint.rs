//! The file of a coordinator that is not running, as something to move from and to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use prost::Message as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::{Code, SharedClock, Timestamp};

use super::disk::{self, BATCHES, META, META_KEY, QUEUES};
use super::upgrade::upgrade;
use crate::contract::Error;
use crate::engine::{FENCE_TIME_BITS, RECORD_VERSION};
use crate::migration::{Endpoint, Head, Migration, Phase, Queue, Record, in_use};
use crate::model::Fence;
use crate::request::{History, Run};

/// Batches of one part.
const PART: usize = 4_096;
/// Memory for pages, bytes.
const CACHE_BYTES: usize = 64 << 20;

/// See the module. No coordinator can open the file while this is there.
///
/// A state that is moved here is put together in a file of its own, with
/// `.filling` appended, which takes the name once it is whole. All calls block.
pub struct FileEndpoint {
    path: PathBuf,
    clock: SharedClock,
    file: Option<Database>,
    filling: Option<Database>,
}

impl std::fmt::Debug for FileEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileEndpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileEndpoint {
    /// Takes the file, where there is one. Its directory must be there.
    ///
    /// # Errors
    /// `directory_locked` where a coordinator has it, `corrupt`, `format_newer`
    /// and `io` as at its opening.
    pub fn open(path: impl Into<PathBuf>, clock: SharedClock) -> Result<Self, Error> {
        let mut endpoint = FileEndpoint { path: path.into(), clock, file: None, filling: None };
        if endpoint.path.exists() {
            let file = open(&endpoint.path)?;
            let mut meta = meta(&file, &endpoint.path)?;
            if meta.version > RECORD_VERSION {
                return Err(disk::newer(&endpoint.path.display(), meta.version));
            }
            let name = endpoint.path.display().to_string();
            upgrade(&file, &name, &mut meta).map_err(|error| failed(&endpoint.path, error))?;
            endpoint.file = Some(file);
        }
        if matches!(endpoint.phase_now()?, Phase::Filling(_)) {
            let filling = endpoint.filling_path();
            endpoint.filling = filling.exists().then(|| open(&filling)).transpose()?;
        }
        Ok(endpoint)
    }

    fn filling_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".filling");
        name.into()
    }

    /// What is there to read: the state that is being put together, or the file.
    fn current(&self) -> Option<(&Database, PathBuf)> {
        match (&self.filling, &self.file) {
            (Some(filling), _) => Some((filling, self.filling_path())),
            (None, Some(file)) => Some((file, self.path.clone())),
            (None, None) => None,
        }
    }

    /// The file says it, also where a state is put together beside it: no
    /// coordinator opens it then.
    fn phase_now(&self) -> Result<Phase, Error> {
        let Some(file) = &self.file else { return Ok(Phase::Serving) };
        match meta(file, &self.path)?.migration {
            Some(stored) => Phase::from_stored(stored),
            None => Ok(Phase::Serving),
        }
    }

    /// Writes the phase into the file that is there.
    fn mark(&self, phase: &Phase) -> Result<(), Error> {
        let Some(file) = &self.file else {
            let operation = format!("move {}: there is no such file", self.path.display());
            return Err(Error::Backend { operation, code: Code::NotFound, source: None });
        };
        let mut meta = meta(file, &self.path)?;
        meta.migration = phase.to_stored();
        meta.version = RECORD_VERSION;
        put_meta(file, &meta).map_err(|error| failed(&self.path, error))
    }

    /// What was put together takes its name.
    fn open_filled(&mut self) -> Result<(), Error> {
        let filling = self.filling_path();
        if self.filling.take().is_none() {
            let operation = format!("open {}: it is gone", filling.display());
            return Err(Error::Backend { operation, code: Code::NotFound, source: None });
        }
        // What was here had nothing, or was moved away.
        self.file = None;
        std::fs::rename(&filling, &self.path).map_err(|error| failed(&filling, io(error)))?;
        super::sync_directory(&self.path)?;
        self.file = Some(open(&self.path)?);
        Ok(())
    }

    /// A state without batches, in a file of its own; then nobody can open what
    /// is in its place.
    fn begin(&mut self, migration: &Migration, head: &Head) -> Result<(), Error> {
        if self.file.is_none() {
            self.file = Some(create(&self.path)?);
        }
        let path = self.filling_path();
        if path.exists() {
            // It was cut off before it was known.
            std::fs::remove_file(&path).map_err(|error| failed(&path, io(error)))?;
        }
        let database = create(&path)?;
        let own = self.file.as_ref().map(|file| meta(file, &self.path)).transpose()?;
        let meta = self.meta_of(head, &own.unwrap_or_default());
        let write = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            {
                let mut queues = write.open_table(QUEUES)?;
                for queue in &head.queues {
                    let record = queue.to_stored().encode_to_vec();
                    queues.insert(queue.name.as_str(), record.as_slice())?;
                }
            }
            write.open_table(META)?.insert(META_KEY, meta.encode_to_vec().as_slice())?;
            write.commit()?;
            Ok(())
        };
        write().map_err(|error| failed(&path, error))?;
        self.mark(&Phase::Filling(migration.clone()))?;
        self.filling = Some(database);
        Ok(())
    }

    /// The next opening takes an epoch above all of the source, and of the file
    /// that was here.
    fn meta_of(&self, head: &Head, own: &CoordinatorMeta) -> CoordinatorMeta {
        let runs = &head.history.runs;
        CoordinatorMeta {
            version: RECORD_VERSION,
            epoch: own.epoch.max(head.last_fence.0 >> FENCE_TIME_BITS),
            last_fence: head.last_fence.0,
            // The present run of the source ends where its last batch stands.
            next_sequence: runs.last().map_or(1, |run| run.end).max(1),
            last_now: self.clock.now().as_micros(),
            copied_at: 0,
            run: runs.last().map_or(0, |run| run.id),
            past: runs.iter().rev().skip(1).rev().map(proto::Run::from).collect(),
            migration: None,
        }
    }
}

#[async_trait]
impl Endpoint for FileEndpoint {
    fn name(&self) -> String {
        format!("the file {}", self.path.display())
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn phase(&mut self) -> Result<Phase, Error> {
        self.phase_now()
    }

    async fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        match (self.phase_now()?, phase) {
            (now, wanted) if now == *wanted => Ok(()),
            (Phase::Filling(_), Phase::Serving) => self.open_filled(),
            (now, wanted) => {
                now.check(wanted, &self.name())?;
                self.mark(wanted)
            }
        }
    }

    async fn head(&mut self) -> Result<Head, Error> {
        let Some((database, path)) = self.current() else { return Ok(Head::default()) };
        let meta = meta(database, &path)?;
        let now = self.clock.now();
        let read = || -> Result<Head, redb::Error> {
            let read = database.begin_read()?;
            let mut head = Head { last_fence: last_fence(&meta, now), ..Head::default() };
            for entry in read.open_table(QUEUES)?.iter()? {
                let (name, value) = entry?;
                head.queues.push(Queue::from_stored(name.value(), value.value()));
            }
            head.batches = read.open_table(BATCHES)?.len()?;
            Ok(head)
        };
        let mut head = read().map_err(|error| failed(&path, error))?;
        let past = meta.past.iter().map(|run| Run { id: run.id, end: run.end });
        let present = Run { id: meta.run, end: meta.next_sequence };
        let runs = past.chain([present]).filter(|run| run.id != 0).collect();
        head.history = History { runs };
        Ok(head)
    }

    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error> {
        let Some((database, path)) = self.current() else { return Ok(Vec::new()) };
        let at = Timestamp::from_micros(meta(database, &path)?.last_now);
        let read = || -> Result<Result<Vec<Record>, u32>, redb::Error> {
            let read = database.begin_read()?;
            let batches = read.open_table(BATCHES)?;
            let mut part = Vec::new();
            for entry in batches.range(after.saturating_add(1)..)?.take(PART) {
                let (sequence, value) = entry?;
                let sequence = sequence.value();
                let mut record = match Record::from_stored(sequence, value.value(), at) {
                    Ok(record) => record,
                    Err(newer) => return Ok(Err(newer)),
                };
                for waited in &mut record.waits_for {
                    let stored = batches.get(waited.sequence)?;
                    let found = stored.map(|v| Record::from_stored(waited.sequence, v.value(), at));
                    if let Some(Ok(found)) = found {
                        waited.id = found.batch.spec.id;
                    }
                }
                part.push(record);
            }
            Ok(Ok(part))
        };
        let part = read().map_err(|error| failed(&path, error))?;
        part.map_err(|newer| disk::newer(&path.display(), newer))
    }

    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error> {
        self.phase_now()?.check(&Phase::Filling(migration.clone()), &self.name())?;
        let path = self.filling_path();
        let Some(database) = &self.filling else {
            self.begin(migration, head)?;
            return Ok(0);
        };
        let last = || -> Result<u64, redb::Error> {
            let batches = database.begin_read()?.open_table(BATCHES)?;
            Ok(batches.last()?.map_or(0, |(sequence, _)| sequence.value()))
        };
        last().map_err(|error| failed(&path, error))
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        let path = self.filling_path();
        let Some(database) = &self.filling else {
            let operation = format!("{} is not being filled", self.path.display());
            return Err(Error::Backend { operation, code: Code::FailedPrecondition, source: None });
        };
        let write = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            {
                let mut batches = write.open_table(BATCHES)?;
                for record in records {
                    batches.insert(record.sequence, record.to_stored().as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        write().map_err(|error| failed(&path, error))
    }

    async fn sync(&mut self) -> Result<(), Error> {
        // Every transaction is on disk when it is committed.
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Error> {
        match self.phase_now()? {
            Phase::Filling(_) => {
                self.filling = None;
                self.mark(&Phase::Serving)?;
                let path = self.filling_path();
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(failed(&path, io(error)))
                    }
                    _ => super::sync_directory(&path),
                }
            }
            Phase::Moved(_) => self.forget(),
            now => now.check(&Phase::Serving, &self.name()).and(Err(in_use(&self.name()))),
        }
    }
}

impl FileEndpoint {
    /// Empties the file, but for what tokens have to be above.
    fn forget(&self) -> Result<(), Error> {
        let Some(database) = &self.file else { return Ok(()) };
        let own = meta(database, &self.path)?;
        let left =
            CoordinatorMeta { version: RECORD_VERSION, epoch: own.epoch, ..Default::default() };
        let empty = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.delete_table(BATCHES)?;
            write.delete_table(QUEUES)?;
            write.open_table(BATCHES)?;
            write.open_table(QUEUES)?;
            write.open_table(META)?.insert(META_KEY, left.encode_to_vec().as_slice())?;
            write.commit()?;
            Ok(())
        };
        empty().map_err(|error| failed(&self.path, error))
    }
}

fn create(path: &Path) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let created = builder.create(path).map_err(|error| failed(path, error))?;
    disk::make_tables(&created).map_err(|error| failed(path, error))?;
    super::sync_directory(path)?;
    Ok(created)
}

/// The library checks its file with assertions in places.
fn open(path: &Path) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    match catch_unwind(AssertUnwindSafe(|| builder.open(path))) {
        Ok(opened) => opened.map_err(|error| failed(path, error)),
        Err(_) => Err(super::read::damaged(path, "it is no whole database")),
    }
}

fn io(error: std::io::Error) -> redb::Error {
    redb::Error::Io(error)
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let operation = match error {
        redb::Error::DatabaseAlreadyOpen => {
            format!("open {}: a coordinator has it; stop that server first", path.display())
        }
        _ => format!("open or write {}", path.display()),
    };
    Error::Backend { operation, code: disk::code(&error), source: Some(Box::new(error)) }
}

/// As stored; nothing where it is new.
fn meta(database: &Database, path: &Path) -> Result<CoordinatorMeta, Error> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let read = database.begin_read()?;
        match read.open_table(META) {
            Ok(table) => Ok(table.get(META_KEY)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let bytes = read().map_err(|error| failed(path, error))?.unwrap_or_default();
    CoordinatorMeta::decode(bytes.as_slice())
        .map_err(|error| super::read::damaged(path, &error.to_string()))
}

fn put_meta(database: &Database, meta: &CoordinatorMeta) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(META_KEY, meta.encode_to_vec().as_slice())?;
    write.commit()?;
    Ok(())
}

/// Above all that the epoch of the file, or of the copy that it is, could give out.
fn last_fence(meta: &CoordinatorMeta, now: Timestamp) -> Fence {
    let epoch = disk::next_epoch(meta, now).saturating_sub(1);
    let whole = (epoch << FENCE_TIME_BITS) | ((1 << FENCE_TIME_BITS) - 1);
    Fence(whole.max(meta.last_fence))
}
