//! Every type, in chunks and over the wire.

use arrow_array::RecordBatch;
use futures::{TryStreamExt as _, stream};
use sheaf_exchange::service::{
    ChunkOptions, Compression, deserialize_from_chunks, deserialize_schema, estimate_data_size,
    serialize_schema, serialize_to_chunks,
};
use sheaf_exchange::shuffle::ReadOptions;

use super::world::{Worker, client, key, options, sender, soon};
use crate::every_type::{batches, texts};

/// Rows of several batches as text, column by column.
fn shown(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let columns = batches.first().map_or(0, RecordBatch::num_columns);
    let column =
        |at: usize| batches.iter().flat_map(|batch| texts(batch.column(at).as_ref())).collect();
    (0..columns).map(column).collect()
}

#[test]
fn every_type_comes_back_from_chunks_in_every_compression() {
    let (schema, batches) = batches(11, &[70, 0, 1, 200]);
    for compression in Compression::ALL {
        for chunk_bytes in [2_000, 4 << 20] {
            let options = ChunkOptions { chunk_bytes, compression };
            let made = serialize_to_chunks(schema.clone(), &batches, options);
            let (first, chunks) = made.unwrap();
            let packed = chunks
                .iter()
                .filter(|chunk| Compression::from_proto(chunk.compression).unwrap() == compression);
            assert!(packed.count() > 0, "nothing is {compression}");
            assert_eq!(deserialize_schema(&first).unwrap(), schema);
            assert_eq!(first, serialize_schema(&schema).unwrap());
            let again = deserialize_from_chunks(&first, &chunks).unwrap();
            assert!(again.iter().all(|batch| batch.schema() == schema));
            assert_eq!(shown(&again), shown(&batches), "{compression} {chunk_bytes}");
            let rows: u64 = chunks.iter().map(|chunk| chunk.rows).sum();
            assert_eq!(rows, 271);
        }
    }
}

#[test]
fn the_estimate_is_near_what_chunks_have() {
    let (schema, batches) = batches(12, &[4_000]);
    let (_, chunks) = serialize_to_chunks(schema, &batches, ChunkOptions::default()).unwrap();
    let wire: usize = chunks.iter().map(|chunk| chunk.payload.len()).sum();
    let estimate = estimate_data_size(&batches) as usize;
    assert!(estimate > wire / 2 && estimate < wire * 2, "{estimate} for {wire}");
    // A part of a batch is a part of its size, whatever memory it shares.
    let tenth = estimate_data_size([&batches[0].slice(0, 400)]) as usize;
    assert!(tenth * 4 < estimate, "{tenth} of {estimate}");
    assert_eq!(estimate_data_size([]), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_goes_over_the_wire_in_every_compression() {
    let worker = Worker::new().await;
    let (schema, batches) = batches(13, &[90, 40]);
    for (at, sent) in Compression::ALL.into_iter().enumerate() {
        let (sending, key) = (client(options(sent)), key(at as u32));
        let rows = stream::iter(batches.clone().into_iter().map(Ok));
        let sender = sender(0, 1, 1);
        let sending = sending.stream_data(&worker.uri, &key, sender, schema.clone(), rows);
        assert_eq!(soon("the send", sending).await.unwrap().totals.rows, 130);
        for asked in Compression::ALL {
            let reader = client(options(asked));
            let reader =
                reader.request_data(&worker.uri, &key, Some(&schema), ReadOptions::default());
            let reader = reader.await.unwrap();
            assert_eq!(reader.schema(), schema);
            let got: Vec<RecordBatch> =
                soon("the read", reader.into_stream().try_collect()).await.unwrap();
            assert_eq!(shown(&got), shown(&batches), "sent {sent}, asked {asked}");
        }
    }
}
