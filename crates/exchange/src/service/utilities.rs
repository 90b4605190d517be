//! Record batches to chunks and back, without a network.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sheaf_flight::ipc::{Decoded, Decoder};
use sheaf_proto::exchange::v1 as proto;

use super::chunk::{bounds, pack, unpack};
use super::codec::Compression;
use super::schema::{from_proto, to_proto};
use crate::shuffle::Error;
use crate::{Partitioner, PartitionerOptions, Partitioning};

/// How batches become chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkOptions {
    /// Bytes at which a chunk is sealed, before it is compressed.
    pub chunk_bytes: usize,
    /// Of each payload.
    pub compression: Compression,
}

impl Default for ChunkOptions {
    /// 4 MiB, no compression.
    fn default() -> Self {
        let chunk_bytes = PartitionerOptions::default().chunk_bytes;
        ChunkOptions { chunk_bytes, compression: Compression::None }
    }
}

/// Record batches of one schema as chunks, numbered from 0, and the schema with
/// which they are read. Small batches share chunks, large ones are cut.
///
/// # Errors
/// [`Error::Partition`] for a batch of another schema and for limits that are none;
/// `limit_exceeded` for a row that fits no message.
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_exchange::service::{
///     ChunkOptions, Compression, deserialize_from_chunks, serialize_to_chunks,
/// };
///
/// let column = Arc::new(Int64Array::from_iter_values(0..100_000)) as _;
/// let batch = RecordBatch::try_from_iter([("n", column)])?;
/// let options = ChunkOptions { chunk_bytes: 64 << 10, compression: Compression::Snappy };
/// let (schema, chunks) = serialize_to_chunks(batch.schema(), &[batch.clone()], options)?;
/// assert!(chunks.len() > 10);
/// let again = deserialize_from_chunks(&schema, &chunks)?;
/// assert_eq!(again.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serialize_to_chunks(
    schema: SchemaRef,
    batches: &[RecordBatch],
    options: ChunkOptions,
) -> Result<(proto::ArrowSchema, Vec<proto::DataChunk>), Error> {
    let ChunkOptions { chunk_bytes, compression } = options;
    let mut partitioner =
        Partitioner::try_new(schema, Partitioning::Single, 1, partitioner_options(chunk_bytes))?;
    let first = to_proto(&partitioner.schema_message())?;
    let mut chunks = Vec::new();
    let mut add = |sealed: Vec<crate::Sealed>| -> Result<(), Error> {
        for message in sealed.into_iter().flat_map(|part| part.messages) {
            chunks.push(pack(chunks.len() as u64, &message, compression)?);
        }
        Ok(())
    };
    for batch in batches {
        add(partitioner.push(batch)?)?;
    }
    add(partitioner.finish()?)?;
    Ok((first, chunks))
}

/// The record batches in chunks: all of them, from number 0 on and in order.
///
/// # Errors
/// [`Error::Corrupt`] where a checksum is wrong; [`Error::Protocol`] for a chunk
/// out of order and for a payload that is not what it says; `limit_exceeded` for
/// one that unfolds to more than a message takes; [`Error::Flight`] for messages
/// that are no data of the schema.
pub fn deserialize_from_chunks<'a>(
    schema: &proto::ArrowSchema,
    chunks: impl IntoIterator<Item = &'a proto::DataChunk>,
) -> Result<Vec<RecordBatch>, Error> {
    let mut decoder = Decoder::new(bounds());
    decoder.push(&from_proto(schema)?)?;
    let mut batches = Vec::new();
    for (expected, chunk) in (0_u64..).zip(chunks) {
        if chunk.sequence != expected {
            let found = chunk.sequence;
            return Err(Error::Protocol(format!("chunk {found} comes where {expected} is next")));
        }
        if let Decoded::Batch(batch) = decoder.push(&unpack(chunk)?)? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// One partition's memory is its chunk.
fn partitioner_options(chunk_bytes: usize) -> PartitionerOptions {
    let default = PartitionerOptions::default();
    let memory_bytes = default.memory_bytes.max(chunk_bytes);
    PartitionerOptions { chunk_bytes, memory_bytes, ..default }
}
