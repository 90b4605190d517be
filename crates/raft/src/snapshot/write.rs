//! Writing a snapshot, a record batch at a time.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use prost::Message as _;
use sheaf_proto::raft::v1 as proto;
use twox_hash::XxHash3_64;

use super::Error;
use super::file::HEAD;
use super::tail::{self, VERSION};
use crate::stored::{self, SnapshotMeta};
use crate::types::NodeId;

const WRITE_BYTES: usize = 256 << 10;

/// What a snapshot is of.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) meta: SnapshotMeta,
    /// Every node that ever was a member.
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) digest: u64,
    pub(crate) schema: SchemaRef,
}

impl Head {
    /// The schema of the file: the machine's, with what the snapshot is of.
    fn schema(&self, cluster: &str) -> Schema {
        let membership = &self.meta.last_membership;
        let head = proto::SnapshotHead {
            version: VERSION,
            cluster: cluster.to_owned(),
            last: self.meta.last_log_id.as_ref().map(stored::position),
            membership_position: membership.log_id().as_ref().map(stored::position),
            membership: Some(stored::to_membership(membership.membership())),
            digest: self.digest,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: self.nodes.clone(),
        };
        let mut metadata = self.schema.metadata().clone();
        let bytes = head.encode_to_vec();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        metadata.insert(HEAD, digits);
        Schema::new_with_metadata(self.schema.fields().clone(), metadata)
    }
}

/// Counts and hashes what goes through it.
struct Counted {
    file: BufWriter<File>,
    bytes: u64,
    hasher: XxHash3_64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.write(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A snapshot that is being written; what it wrote is removed where it is dropped
/// before it is finished.
pub(crate) struct SnapshotWriter {
    path: PathBuf,
    stream: StreamWriter<Counted>,
    schema: SchemaRef,
    tail: proto::SnapshotTail,
    limit: u64,
    is_finished: bool,
}

impl SnapshotWriter {
    pub(super) fn create(
        path: PathBuf,
        cluster: &str,
        head: &Head,
        limit: u64,
    ) -> Result<SnapshotWriter, Error> {
        let schema = Arc::new(head.schema(cluster));
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let file = BufWriter::with_capacity(WRITE_BYTES, file);
        let counted = Counted { file, bytes: 0, hasher: XxHash3_64::new() };
        let stream = StreamWriter::try_new(counted, &schema);
        let stream = stream.map_err(|error| {
            discard(&path);
            Error::arrow("write", &path)(error)
        })?;
        let tail = proto::SnapshotTail { version: VERSION, ..proto::SnapshotTail::default() };
        Ok(SnapshotWriter { path, stream, schema, tail, limit, is_finished: false })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        // The same columns, under the schema with what it is a snapshot of.
        let columns = batch.columns().to_vec();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| Error::machine("make a snapshot")(error.into()))?;
        self.stream.write(&batch).map_err(|error| match error {
            ArrowError::IoError(_, source) => Error::io("write", &self.path)(source),
            other => Error::machine("make a snapshot")(other.into()),
        })?;
        self.tail.batches += 1;
        self.tail.rows += batch.num_rows() as u64;
        let actual = self.stream.get_ref().bytes;
        if actual > self.limit {
            return Err(Error::TooLarge { actual, limit: self.limit });
        }
        Ok(())
    }

    /// The digest of the state, in place of the one in the head.
    pub(crate) fn digest(&mut self, digest: u64) {
        self.tail.digest = Some(digest);
    }

    /// Writes the tail, and waits until the file is on disk.
    pub(crate) fn finish(mut self) -> Result<PathBuf, Error> {
        self.stream.finish().map_err(Error::arrow("write", &self.path))?;
        let counted = self.stream.get_mut();
        self.tail.content_bytes = counted.bytes;
        self.tail.content_xxh3 = counted.hasher.finish();
        let tail = tail::encode(&self.tail);
        let mut run = || {
            counted.file.write_all(&tail)?;
            counted.file.flush()?;
            counted.file.get_ref().sync_all()
        };
        run().map_err(Error::io("write", &self.path))?;
        self.is_finished = true;
        Ok(self.path.clone())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            discard(&self.path);
        }
    }
}

/// Removes a file that is of no use; what stays is removed at the next open.
pub(super) fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a file of no use could not be removed");
    }
}
