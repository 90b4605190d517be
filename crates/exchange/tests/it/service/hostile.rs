//! Bytes that nobody meant: refused, without a panic and within bounds.

use bytes::Bytes;
use proptest::prelude::*;
use sheaf_exchange::service::{
    ChunkOptions, Compression, deserialize_from_chunks, deserialize_schema, serialize_to_chunks,
};
use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::{Code, Retryable as _};

use super::world::{batch, schema};

fn compression() -> impl Strategy<Value = Compression> {
    proptest::sample::select(Compression::ALL.to_vec())
}

/// Of one batch of some types.
fn made(compression: Compression) -> (proto::ArrowSchema, Vec<proto::DataChunk>) {
    let options = ChunkOptions { compression, ..ChunkOptions::default() };
    serialize_to_chunks(schema(), &[batch(0, 300)], options).unwrap()
}

fn sealed(payload: Vec<u8>, like: &proto::DataChunk) -> proto::DataChunk {
    let crc32c = Some(crc32c::crc32c(&payload));
    proto::DataChunk { payload: Bytes::from(payload), crc32c, ..like.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_payloads_are_refused(
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        uncompressed_bytes in prop_oneof![0_u64..4_000, any::<u64>()],
        compression in 0_i32..6,
        rows: u64,
    ) {
        let (first, chunks) = made(Compression::None);
        let like = proto::DataChunk { uncompressed_bytes, compression, rows, ..chunks[0].clone() };
        let chunk = sealed(payload, &like);
        prop_assert!(deserialize_from_chunks(&first, [&chunk]).is_err());
    }

    #[test]
    fn a_changed_byte_is_found_by_its_checksum_and_without_it_breaks_nothing(
        compression in compression(),
        at: prop::sample::Index,
        bit in 0_u32..8,
    ) {
        let (first, chunks) = made(compression);
        let mut payload = chunks[0].payload.to_vec();
        let at = at.index(payload.len());
        payload[at] ^= 1 << bit;
        let hurt = proto::DataChunk { payload: payload.clone().into(), ..chunks[0].clone() };
        let error = deserialize_from_chunks(&first, [&hurt]).unwrap_err();
        prop_assert_eq!(error.code(), Code::Corrupt);
        // Whoever changed it gave it a new checksum: other values, or an error.
        if let Ok(batches) = deserialize_from_chunks(&first, [&sealed(payload, &chunks[0])]) {
            prop_assert_eq!(batches[0].num_rows(), 300);
        }
    }

    #[test]
    fn a_payload_that_was_cut_is_refused(compression in compression(), at: prop::sample::Index) {
        let (first, chunks) = made(compression);
        let payload = chunks[0].payload.to_vec();
        let cut = sealed(payload[..at.index(payload.len())].to_vec(), &chunks[0]);
        prop_assert!(deserialize_from_chunks(&first, [&cut]).is_err());
    }

    #[test]
    fn a_schema_of_any_bytes_is_a_schema_or_refused(
        at: prop::sample::Index,
        with: u8,
        random in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let (first, _) = made(Compression::None);
        let mut bytes = first.ipc_schema.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        for ipc_schema in [Bytes::from(bytes), Bytes::from(random)] {
            let schema = proto::ArrowSchema { ipc_schema, fingerprint: String::new() };
            let _read_or_not = deserialize_schema(&schema).is_ok();
        }
    }
}

#[test]
fn chunks_out_of_order_are_refused() {
    let options = ChunkOptions { chunk_bytes: 2_000, ..ChunkOptions::default() };
    let (first, chunks) = serialize_to_chunks(schema(), &[batch(0, 3_000)], options).unwrap();
    assert!(deserialize_from_chunks(&first, &chunks).is_ok());
    for wrong in [&[&chunks[1], &chunks[0]][..], &[&chunks[0], &chunks[0]], &[&chunks[1]]] {
        let error = deserialize_from_chunks(&first, wrong.iter().copied()).unwrap_err();
        assert_eq!(error.code(), Code::MalformedData, "{error}");
    }
    assert!(deserialize_from_chunks(&first, []).unwrap().is_empty());
}

#[test]
fn a_bomb_inside_a_payload_is_refused_before_it_unfolds() {
    use arrow_array::{Int64Array, RecordBatch};
    use sheaf_flight::ipc::{Compression as Codec, Encoder};

    let column = std::sync::Arc::new(Int64Array::from(vec![0; 100_000])) as _;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let (mut encoder, first) = Encoder::try_new(batch.schema(), Codec::Zstd).unwrap();
    let message = encoder.encode(&batch).unwrap().remove(0);
    let frame = |message: &sheaf_flight::Message| {
        let padded = message.header.len().next_multiple_of(8);
        let mut framed = vec![0xff; 4];
        framed.extend((padded as u32).to_le_bytes());
        framed.extend_from_slice(&message.header);
        framed.resize(8 + padded, 0);
        message.body.iter().for_each(|piece| framed.extend_from_slice(piece));
        framed
    };
    let schema =
        proto::ArrowSchema { ipc_schema: frame(&first).into(), fingerprint: String::new() };
    let like = proto::DataChunk { rows: 100_000, ..Default::default() };
    let good = frame(&message);
    assert!(good.len() < 1_000);
    let read = deserialize_from_chunks(&schema, [&sealed(good.clone(), &like)]).unwrap();
    assert_eq!(read, [batch]);
    // A compressed buffer begins with what it unfolds to.
    let told = 800_000_i64.to_le_bytes();
    let at = good.windows(8).rposition(|bytes| bytes == told).unwrap();
    let mut bomb = good;
    bomb[at..at + 8].copy_from_slice(&(300_i64 << 20).to_le_bytes());
    let error = deserialize_from_chunks(&schema, [&sealed(bomb, &like)]).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
}
