//! A snapshot on disk.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use prost::Message as _;
use sheaf_proto::raft::v1 as proto;

use super::tail::{self, Reader, VERSION};
use super::write::discard;
use super::{Error, SnapshotId};
use crate::machine::MachineError;
use crate::stored::{self, SnapshotMeta};
use crate::types::NodeId;

/// The key of the schema's metadata that has a `SnapshotHead`.
pub(super) const HEAD: &str = "sheaf.raft.snapshot";
const READ_BYTES: usize = 256 << 10;

/// A whole snapshot. Cheap to clone; it can be read for as long as a clone is
/// there, also when newer ones have taken its place.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Removed with the last clone: nobody made it a snapshot of this node.
    is_temporary: AtomicBool,
    file: File,
    id: SnapshotId,
    content_bytes: u64,
    batches: u64,
    rows: u64,
    meta: SnapshotMeta,
    schema: SchemaRef,
    digest: u64,
    nodes: Vec<NodeId>,
    written_by: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_temporary.load(Ordering::Relaxed) {
            discard(&self.path);
        }
    }
}

impl SnapshotFile {
    /// Opens a file and checks it, its hash included.
    pub(super) fn open(path: &Path, cluster: &str) -> Result<SnapshotFile, Error> {
        let reading = || Error::io("read", path);
        let damaged = |problem: String| Error::Damaged { path: path.to_path_buf(), problem };
        let file = File::open(path).map_err(reading())?;
        let bytes = file.metadata().map_err(reading())?.len();
        let tail = tail::read(&file, bytes).map_err(reading())?.map_err(damaged)?;
        newer(path, tail.version)?;
        if tail::hash(&file, tail.content_bytes).map_err(reading())? != tail.content_xxh3 {
            return Err(damaged("its content does not match its hash".to_owned()));
        }
        let schema = StreamReader::try_new(Reader::new(&file, tail.content_bytes), None)
            .map_err(Error::arrow("read", path))?
            .schema();
        let head = head(&schema).map_err(damaged)?;
        newer(path, head.version)?;
        if head.cluster != cluster {
            let (path, cluster) = (path.to_path_buf(), cluster.to_owned());
            return Err(Error::Foreign { path, actual: head.cluster, cluster });
        }
        let last = head.last.unwrap_or_default();
        let id = SnapshotId { term: last.term, index: last.index, bytes, hash: tail.content_xxh3 };
        let membership = head.membership.unwrap_or_default();
        let meta = SnapshotMeta {
            last_log_id: head.last.map(stored::log_id),
            last_membership: stored::StoredMembership::new(
                head.membership_position.map(stored::log_id),
                stored::from_membership(membership).map_err(damaged)?,
            ),
        };
        let inner = Inner {
            path: path.to_path_buf(),
            is_temporary: AtomicBool::new(false),
            file,
            id,
            content_bytes: tail.content_bytes,
            batches: tail.batches,
            rows: tail.rows,
            meta,
            schema,
            digest: tail.digest.unwrap_or(head.digest),
            nodes: head.nodes,
            written_by: head.written_by,
        };
        Ok(SnapshotFile { inner: Arc::new(inner) })
    }

    /// The same file, to be removed with its last clone unless it is moved.
    pub(super) fn temporary(self) -> SnapshotFile {
        self.inner.is_temporary.store(true, Ordering::Relaxed);
        self
    }

    /// Takes the file to its place, from where it is opened again.
    pub(super) fn rename(&self, path: PathBuf) -> Result<SnapshotFile, Error> {
        let old = &self.inner;
        std::fs::rename(&old.path, &path).map_err(Error::io("rename", &old.path))?;
        old.is_temporary.store(false, Ordering::Relaxed);
        let inner = Inner {
            file: old.file.try_clone().map_err(Error::io("read", &path))?,
            path,
            is_temporary: AtomicBool::new(false),
            id: old.id,
            content_bytes: old.content_bytes,
            batches: old.batches,
            rows: old.rows,
            meta: old.meta.clone(),
            schema: old.schema.clone(),
            digest: old.digest,
            nodes: old.nodes.clone(),
            written_by: old.written_by.clone(),
        };
        Ok(SnapshotFile { inner: Arc::new(inner) })
    }

    /// Which one it is.
    pub fn id(&self) -> SnapshotId {
        self.inner.id
    }

    /// Where it is; the file may be gone since.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What it is a snapshot of, to the engine.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.inner.meta
    }

    /// The digest of the state that it was made of.
    pub fn digest(&self) -> u64 {
        self.inner.digest
    }

    /// Every node that ever was a member.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.inner.nodes
    }

    /// Whether this build wrote it: others may compute another digest.
    pub(crate) fn is_of_this_build(&self) -> bool {
        self.inner.written_by == env!("CARGO_PKG_VERSION")
    }

    /// Of its record batches.
    pub fn schema(&self) -> SchemaRef {
        self.inner.schema.clone()
    }

    /// How many record batches it has.
    pub fn batches_count(&self) -> u64 {
        self.inner.batches
    }

    /// How many rows they have.
    pub fn rows(&self) -> u64 {
        self.inner.rows
    }

    /// Up to `length` bytes of the file from `at` on, to be sent; none at its end.
    /// Waits for the disk.
    ///
    /// # Errors
    /// Those of the system.
    pub fn chunk(&self, at: u64, length: usize) -> Result<Bytes, Error> {
        let left = usize::try_from(self.inner.id.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        self.inner
            .file
            .read_exact_at(&mut bytes, at)
            .map_err(Error::io("read", &self.inner.path))?;
        Ok(bytes.into())
    }

    /// Its record batches, one at a time. Waits for the disk.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn batches(&self) -> Result<Batches<'_>, Error> {
        let reader = Reader::new(&self.inner.file, self.inner.content_bytes);
        let reader = BufReader::with_capacity(READ_BYTES, reader);
        let reader =
            StreamReader::try_new(reader, None).map_err(Error::arrow("read", &self.inner.path))?;
        Ok(Batches { reader, left: self.inner.batches })
    }
}

/// The record batches of a snapshot.
#[derive(Debug)]
pub struct Batches<'a> {
    reader: StreamReader<BufReader<Reader<'a>>>,
    left: u64,
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, MachineError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.next() {
            Some(Ok(batch)) => {
                self.left = self.left.saturating_sub(1);
                Some(Ok(batch))
            }
            Some(Err(error)) => Some(Err(error.into())),
            None if self.left > 0 => {
                let missing = std::mem::take(&mut self.left);
                Some(Err(format!("{missing} record batches are missing").into()))
            }
            None => None,
        }
    }
}

fn newer(path: &Path, actual: u32) -> Result<(), Error> {
    if actual > VERSION {
        return Err(Error::Newer { path: path.to_path_buf(), actual, limit: VERSION });
    }
    Ok(())
}

fn head(schema: &Schema) -> Result<proto::SnapshotHead, String> {
    let text = schema.metadata().get(HEAD).ok_or("its schema does not say what it is of")?;
    let bytes = from_hex(text).ok_or("what it is of is no hexadecimal number")?;
    proto::SnapshotHead::decode(bytes.as_slice())
        .map_err(|error| format!("what it is of cannot be read: {error}"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<u8>>>()
        .filter(|_| text.len().is_multiple_of(2))
}
