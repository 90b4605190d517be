//! Files as sinks.

mod dir_sync;
mod encoder;
mod footer;
mod layout;
mod options;
mod publish;
pub(crate) mod supports;
mod write;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_proto::BatchId;
use sheaf_retry::{SharedClock, Timestamp};

use crate::blocking::blocking;
use crate::error::Error;
use crate::format::FileFormat;
use crate::sink::{CommitKey, Committed, PreparedWrite, Sink};
pub(crate) use dir_sync::DirSync;
pub(crate) use encoder::parquet_writer;
pub(crate) use footer::{Footer, RUNS_KEY};
use layout::Layout;
pub use options::SinkOptions;
pub(crate) use publish::create_name;
pub(crate) use supports::has_runs;
use write::FileWrite;

/// Most leftovers that one `recover` looks at; the next one takes the rest.
const MAX_SCAN: usize = 1_000_000;

/// One directory that takes every batch as one file, exactly once.
///
/// ```text
/// DIR/part-ID.parquet     a batch (.parquet, .arrow, .csv, .jsonl); `:` in ID is %3A
/// DIR/_tmp/ID.FENCE       an attempt
/// DIR/_commits/ID.json    CSV and JSON: who won
/// ```
///
/// A reader of `DIR/part-*` sees whole files of finished batches and nothing
/// else. A directory holds one format.
///
/// # The commit of Parquet and Arrow IPC
///
/// 1. `finish` writes the footer, which has identifier, fence and rows, and
///    syncs the file.
/// 2. `commit` hard-links it to `part-ID`, which fails where the name is
///    taken: this is the commit point, and the winner is in the file itself.
/// 3. The directory is synced, then the temporary name removed.
///
/// A crash before 2 leaves an attempt that `recover` removes; between 2 and 3
/// a batch with two names, one of which `recover` removes. A loser, `committed`
/// and `recover` sync the directory too before they answer: whoever linked the
/// file may have died before its sync.
///
/// # The commit of CSV and JSON
///
/// They have no footer, so that a record beside them decides:
///
/// 1. `finish` syncs the file, a record `{"version","batch_id","fence","rows"}`
///    beside it, and both names.
/// 2. `commit` links the record to `_commits/ID.json`: the commit point.
/// 3. That directory is synced, then the file that the record names is linked
///    to `part-ID`, and `DIR` synced.
///
/// After a crash between 2 and 3 the batch is decided and durable, but not
/// visible: the next `commit` or `committed` of that batch, or `recover`,
/// carries step 3 out. Only then does any of them answer.
///
/// # Why not `object_store`
///
/// Its local backend (0.14, with fsync) is as safe, by the same hard link, but
/// a streamed write is a multipart upload, which syncs both directories once
/// more, and no two commits share a sync: here those that run at the same time
/// share that of the directory. Remote stores, where `PutMode::Create` does
/// what the link does here, come as another [`Sink`].
///
/// # Attempts that died
///
/// An open write holds a lock on its file, which the kernel drops with the
/// process. `recover` removes a file that nobody locks if its batch is
/// committed, if an attempt with a higher fence exists, or if it is older than
/// [`SinkOptions::min_age`]. A file that is written is never removed.
#[derive(Clone)]
pub struct FileSink {
    shared: Arc<Shared>,
}

struct Shared {
    layout: Layout,
    options: SinkOptions,
    clock: SharedClock,
    part_dir: DirSync,
    tmp_dir: DirSync,
    commit_dir: DirSync,
}

impl FileSink {
    /// Opens a directory, and makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made or written to.
    pub async fn open(
        dir: impl Into<PathBuf>,
        format: FileFormat,
        options: SinkOptions,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let dir = dir.into();
        let place = dir.display().to_string();
        let layout = Layout::new(&dir, format);
        let shared = Shared {
            part_dir: DirSync::new(dir),
            tmp_dir: DirSync::new(layout.tmp.clone()),
            commit_dir: DirSync::new(layout.commits.clone()),
            layout,
            options,
            clock,
        };
        let shared = blocking("open", &place, || shared.create_directories()).await?;
        Ok(FileSink { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn create_directories(self) -> Result<Self, Error> {
        let layout = &self.layout;
        let mut wanted = vec![&layout.dir, &layout.tmp];
        if !self.has_footer() {
            wanted.push(&layout.commits);
        }
        for dir in wanted {
            create_dir(dir).map_err(|e| Error::io("create directory", dir, e))?;
        }
        // A directory that cannot be written is better refused now than with
        // the first batch.
        let probe = tempfile_name(&layout.tmp);
        File::create(&probe)
            .and_then(|_| fs::remove_file(&probe))
            .map_err(|e| Error::io("write to", &layout.tmp, e))?;
        Ok(self)
    }

    fn recover(&self) -> Result<u64, Error> {
        self.finish_decided()?;
        let names = names(&self.layout.tmp)?;
        let mut newest: HashMap<&str, u64> = HashMap::new();
        for (id, fence) in names.iter().filter_map(|name| layout::attempt_of(name)) {
            let known = newest.entry(id).or_insert(fence);
            *known = fence.max(*known);
        }
        let now = self.clock.now();
        let mut removed = 0;
        for name in &names {
            let path = self.layout.tmp.join(name);
            let attempt = layout::attempt_of(name);
            let replaced = attempt.is_some_and(|(id, fence)| {
                self.is_visible(id) || newest.get(id).is_some_and(|&newest| newest > fence)
            });
            let gone = self.remove_leftover(&path, attempt.map(|(id, _)| id), replaced, now);
            removed += u64::from(gone.map_err(|e| Error::io("recover", &path, e))?);
        }
        Ok(removed)
    }

    /// Removes one file of `_tmp`, if it belongs to nobody.
    fn remove_leftover(
        &self,
        path: &Path,
        id: Option<&str>,
        replaced: bool,
        now: Timestamp,
    ) -> io::Result<bool> {
        // A record beside an attempt that lives is not locked itself.
        let owner = path.with_extension("");
        let of_record = path.extension().is_some_and(|extension| extension == "json");
        if of_record && owner.exists() && lock_dead(&owner)?.is_none() {
            return Ok(false);
        }
        let Some(file) = lock_dead(path)? else { return Ok(false) };
        // Asked with the lock held: its writer is dead and decides nothing now.
        if id.is_some_and(|id| self.is_owed(id)) {
            return Ok(false);
        }
        if !replaced {
            let modified = Timestamp::from(file.metadata()?.modified()?);
            if now.since(modified) < self.options.min_age {
                return Ok(false);
            }
        }
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Locks a file whose writer is dead; nothing where it lives or the file is gone.
pub(crate) fn lock_dead(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Names of files in a directory, those that are UTF-8: ours are.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
    let mut names = Vec::new();
    for entry in entries.take(MAX_SCAN) {
        let entry = entry.map_err(|e| Error::io("list", dir, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes a directory and its name durable, with all that are missing above it.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return fs::create_dir(dir),
    };
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

/// A name of this process, for a file that is removed at once.
fn tempfile_name(dir: &Path) -> PathBuf {
    dir.join(format!(".probe-{}", std::process::id()))
}

#[async_trait]
impl Sink for FileSink {
    async fn prepare(
        &self,
        key: &CommitKey,
        schema: SchemaRef,
    ) -> Result<Box<dyn PreparedWrite>, Error> {
        let write = FileWrite::prepare(Arc::clone(&self.shared), key.clone(), schema).await?;
        Ok(Box::new(write))
    }

    async fn committed(&self, id: &BatchId) -> Result<Option<Committed>, Error> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let place = self.shared.layout.part(&id).display().to_string();
        blocking("look up", &place, move || shared.find(&id)).await
    }

    async fn recover(&self) -> Result<u64, Error> {
        let shared = Arc::clone(&self.shared);
        let place = self.shared.layout.dir.display().to_string();
        blocking("recover", &place, move || shared.recover()).await
    }

    fn describe(&self) -> String {
        format!("{}:{}", self.shared.layout.format, self.shared.layout.dir.display())
    }
}
