//! One batch on its way into a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_retry::Code;

use super::Shared;
use super::encoder::Encoder;
use super::footer::Footer;
use super::supports;
use crate::blocking::blocking;
use crate::error::Error;
use crate::sink::{CommitKey, Committed, PreparedWrite};

/// An open write; what it has on disk goes with it.
pub(super) struct FileWrite {
    place: String,
    /// Not there after an error: the write can only be dropped then.
    open: Option<Open>,
}

/// The blocking side of a write. Dropping it removes its files.
struct Open {
    shared: Arc<Shared>,
    key: CommitKey,
    schema: SchemaRef,
    encoder: Encoder,
    /// Shares the encoder's descriptor, and with it the lock.
    file: File,
    rows: u64,
    finished: Option<Footer>,
    cleanup: Cleanup,
}

/// Removes names when the write is over: committed ones have another name.
struct Cleanup(Vec<PathBuf>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                // `recover` finds it again.
                tracing::debug!(path = %path.display(), %error, "leftover not removed");
            }
        }
    }
}

impl Open {
    fn create(shared: Arc<Shared>, key: CommitKey, schema: SchemaRef) -> Result<Self, Error> {
        let path = shared.layout.attempt(&key);
        let file = create_locked(&path, &key)?;
        let cleanup = Cleanup(vec![path.clone()]);
        let clone = file.try_clone().map_err(|e| Error::io("open", &path, e))?;
        let place = shared.layout.part(&key.id).display().to_string();
        let format = shared.layout.format;
        let encoder = Encoder::open(format, clone, Arc::clone(&schema), &shared.options, place)?;
        Ok(Open { shared, key, schema, encoder, file, rows: 0, finished: None, cleanup })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if self.finished.is_some() {
            return Err(Error::Invalid(format!("batch {} is finished already", self.key.id)));
        }
        if !Arc::ptr_eq(&self.schema, rows.schema_ref())
            && self.schema.fields() != rows.schema_ref().fields()
        {
            return Err(Error::Invalid(format!(
                "rows of batch {} have the schema {}, it was opened with {}",
                self.key.id,
                rows.schema_ref(),
                self.schema
            )));
        }
        self.encoder.write(rows)?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<Footer, Error> {
        if let Some(footer) = &self.finished {
            return Ok(footer.clone());
        }
        let path = self.shared.layout.attempt(&self.key);
        let footer = Footer::new(&self.key, self.rows);
        self.encoder.close(&footer)?;
        self.file.sync_all().map_err(|e| Error::io("sync", &path, e))?;
        if !self.shared.has_footer() {
            let proposal = self.shared.layout.proposal(&self.key);
            self.cleanup.0.push(proposal.clone());
            write_record(&proposal, &footer).map_err(|e| Error::io("write", &proposal, e))?;
            let tmp = &self.shared.layout.tmp;
            self.shared.tmp_dir.sync().map_err(|e| Error::io("sync", tmp, e))?;
        }
        self.finished = Some(footer.clone());
        Ok(footer)
    }

    fn commit(mut self) -> Result<Committed, Error> {
        let footer = self.finish()?;
        let committed = self.shared.publish(&self.key, &footer);
        if committed.is_err() && self.shared.is_decided_for(&self.key) {
            // Decided for this attempt, but not carried out: its files are the
            // only copy until somebody does.
            self.cleanup.0.clear();
        }
        committed
    }
}

impl Shared {
    /// Whether this very attempt has won but may not be visible yet.
    fn is_decided_for(&self, key: &CommitKey) -> bool {
        if self.has_footer() {
            return false;
        }
        match Footer::of_record(&self.layout.record(&key.id), &key.id) {
            Ok(Some(footer)) => footer.fence == key.fence,
            Ok(None) => false,
            // Cannot tell: keep the files, `recover` will.
            Err(_) => true,
        }
    }
}

/// Opens a new file and locks it: the kernel lets the lock go with the
/// process, so that a locked file is one that somebody still writes.
fn create_locked(path: &Path, key: &CommitKey) -> Result<File, Error> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    let file = match create() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            remove_dead(path, key)?;
            create()
        }
        other => other,
    };
    let file = file.map_err(|e| Error::io("create", path, e))?;
    match file.try_lock() {
        // Without locks (some network file systems) age alone tells.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(busy(path, key)),
    }
}

/// Removes a file of the same attempt if its writer is dead.
fn remove_dead(path: &Path, key: &CommitKey) -> Result<(), Error> {
    match super::lock_dead(path).map_err(|e| Error::io("look at", path, e))? {
        Some(_lock) => fs::remove_file(path).map_err(|e| Error::io("remove", path, e)),
        None => Err(busy(path, key)),
    }
}

fn busy(path: &Path, key: &CommitKey) -> Error {
    let other = format!("batch {} is being written under fence {}", key.id, key.fence);
    Error::external("create", path.display().to_string(), Code::Unavailable, other)
}

fn write_record(path: &Path, footer: &Footer) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(footer).map_err(io::Error::from)?)?;
    file.sync_all()
}

impl FileWrite {
    pub(super) async fn prepare(
        shared: Arc<Shared>,
        key: CommitKey,
        schema: SchemaRef,
    ) -> Result<Self, Error> {
        supports::check(shared.layout.format, &schema)?;
        let place = shared.layout.part(&key.id).display().to_string();
        let open = blocking("prepare", &place, || Open::create(shared, key, schema)).await?;
        Ok(FileWrite { place, open: Some(open) })
    }

    fn take(&mut self) -> Result<Open, Error> {
        self.open.take().ok_or_else(|| {
            let place = &self.place;
            Error::Invalid(format!("an earlier write to {place} failed; prepare it again"))
        })
    }
}

#[async_trait]
impl PreparedWrite for FileWrite {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let (mut open, rows) = (self.take()?, rows.clone());
        let work = move || open.write(&rows).map(|()| open);
        self.open = Some(blocking("write", &self.place, work).await?);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let mut open = self.take()?;
        let work = move || open.finish().map(|_| open);
        self.open = Some(blocking("finish", &self.place, work).await?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<Committed, Error> {
        let open = self.take()?;
        blocking("commit", &self.place, || open.commit()).await
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        let open = self.open.take();
        blocking("abort", &self.place, move || {
            drop(open);
            Ok(())
        })
        .await
    }
}
