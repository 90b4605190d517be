//! Chunks of `DataExchangeService`: what is accepted has the rows that it says, and
//! goes through chunks again as the same rows.

use prost::Message as _;
use sheaf_exchange::service::{
    ChunkOptions, Compression, deserialize_from_chunks, deserialize_schema, serialize_to_chunks,
};
use sheaf_proto::exchange::v1::{ArrowSchema, DataChunk};

use super::samples;
use super::support::{Input, push_chunk, refused};

/// What chunks are made of, besides flatbuffers.
pub(crate) const WORDS: &[&str] =
    &["\u{0}\u{0}\u{0}\u{0}", "\u{4}\"M\u{18}", "(\u{b5}/", "ARROW:extension:name"];

/// The chunk gets the checksum that its payload has: otherwise nothing gets by it.
const SEALED: u8 = 1;
/// The rest is a payload as it is, not compressed.
const BARE: u8 = 2;
/// Bytes that an input may say that it unfolds to.
const MAX_UNFOLDED: u64 = 1 << 20;

/// Of streams of few rows, in each compression.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, batch) in [samples::numbers(3), samples::numbers(100)].iter().enumerate() {
        for compression in Compression::ALL {
            let options = ChunkOptions { compression, ..ChunkOptions::default() };
            let made = serialize_to_chunks(batch.schema(), std::slice::from_ref(batch), options);
            let (schema, chunks) = made.expect("chunks");
            for flags in [0, SEALED, SEALED | BARE] {
                let mut seed = vec![flags];
                push_chunk(&mut seed, &schema.ipc_schema);
                if flags & BARE == 0 {
                    seed.extend(chunks[0].encode_to_vec());
                } else if compression == Compression::None && number == 0 {
                    seed.extend_from_slice(&chunks[0].payload);
                } else {
                    continue;
                }
                seeds.push(seed);
            }
        }
    }
    seeds
}

/// Decodes a chunk after its schema, and encodes what it is.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let flags = input.byte();
    let ipc_schema = input.chunk().to_vec().into();
    let schema = ArrowSchema { ipc_schema, fingerprint: String::new() };
    let Some(mut chunk) = chunk(flags, input.rest()) else { return false };
    if flags & SEALED != 0 {
        chunk.crc32c = Some(crc32c::crc32c(&chunk.payload));
        chunk.sequence = 0;
    }
    let batches = match deserialize_from_chunks(&schema, [&chunk]) {
        Ok(batches) => batches,
        Err(error) => {
            refused(&error);
            return false;
        }
    };
    let rows: usize = batches.iter().map(arrow_array::RecordBatch::num_rows).sum();
    assert_eq!(rows as u64, chunk.rows, "a chunk has other rows than it says");
    let known = deserialize_schema(&schema).expect("the schema was read before");
    let options = ChunkOptions { compression: Compression::Snappy, ..ChunkOptions::default() };
    match serialize_to_chunks(known, &batches, options) {
        Ok((schema, chunks)) => {
            let again = deserialize_from_chunks(&schema, &chunks).expect("our own chunks");
            let found: usize = again.iter().map(arrow_array::RecordBatch::num_rows).sum();
            assert_eq!(found, rows, "rows are lost between chunks");
        }
        // Some types of the format cannot be partitioned.
        Err(error) => drop(refused(&error)),
    }
    true
}

fn chunk(flags: u8, rest: &[u8]) -> Option<DataChunk> {
    if flags & BARE != 0 {
        let rows = sheaf_flight::ipc::inspect(rest.get(8..)?).map_or(0, |outline| outline.rows);
        return Some(DataChunk { payload: rest.to_vec().into(), rows, ..DataChunk::default() });
    }
    let chunk = DataChunk::decode(rest).ok()?;
    (chunk.uncompressed_bytes <= MAX_UNFOLDED).then_some(chunk)
}
