//! What one face takes, the other gives.

use std::slice::from_ref;

use arrow_array::RecordBatch;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_exchange::service::Compression;
use sheaf_exchange::shuffle::{ExchangeClient, ExchangeOptions, Governor, ReadOptions};
use sheaf_retry::SystemClock;

use super::world::{Worker, client, key, options, pool, sender};
use crate::every_type::{batches, texts};

fn over_flight() -> ExchangeClient {
    let options = ExchangeOptions::default();
    ExchangeClient::new(pool(), SystemClock::shared(), Governor::new(4 << 20), options)
}

fn shown(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let column = |at: usize| {
        let mut all: Vec<String> =
            batches.iter().flat_map(|batch| texts(batch.column(at).as_ref())).collect();
        all.sort_unstable();
        all
    };
    (0..batches[0].num_columns()).map(column).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sender_by_grpc_and_one_by_flight_are_read_by_both() {
    let worker = Worker::new().await;
    let (schema, all) = batches(21, &[80, 60]);
    let (flight, grpc) = (over_flight(), client(options(Compression::Snappy)));
    let rows = |at: usize| stream::iter([Ok(all[at].clone())]);
    grpc.stream_data(&worker.uri, &key(0), sender(0, 1, 2), schema.clone(), rows(0)).await.unwrap();
    flight
        .send_data_to_worker(&worker.uri, &key(0), sender(1, 1, 2), schema.clone(), rows(1))
        .await
        .unwrap();
    let wanted = ReadOptions::default();
    let reader =
        flight.request_data_from_worker(&worker.uri, &key(0), Some(&schema), wanted).await.unwrap();
    let by_flight: Vec<RecordBatch> = reader.into_stream().try_collect().await.unwrap();
    let reader = grpc.request_data(&worker.uri, &key(0), Some(&schema), wanted).await.unwrap();
    let by_grpc: Vec<RecordBatch> = reader.into_stream().try_collect().await.unwrap();
    assert_eq!(shown(&by_flight), shown(&all));
    // Positions mean the same on both: who has read some here goes on there.
    assert_eq!(by_flight.len(), by_grpc.len());
    for (one, other) in by_flight.iter().zip(&by_grpc) {
        assert_eq!(shown(from_ref(one)), shown(from_ref(other)));
    }
    let there = flight.get_available_partitions(&worker.uri, "query:1", 3).await.unwrap();
    let told = grpc.get_available_partitions(&worker.uri, "query:1", 3, false).await.unwrap();
    assert_eq!(there.partitions[0].checksum, format!("{:08x}", told[0].checksum));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_goes_on_over_the_other_face() {
    use super::world::{batch, numbers, requests, schema};
    use sheaf_exchange::service::{ChunkOptions, serialize_to_chunks};
    use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;

    let worker = Worker::new().await;
    let all = [batch(0, 500)];
    let (first, chunks) = serialize_to_chunks(schema(), &all, ChunkOptions::default()).unwrap();
    let begin = super::refusals::begin(first);
    let said = vec![Said::Begin(begin), Said::Chunk(chunks[0].clone())];
    let sent = worker.raw().await.stream_data(stream::iter(requests(said))).await.unwrap();
    let answers: Vec<_> = sent.into_inner().try_collect().await.unwrap();
    assert_eq!((answers[1].next_sequence, answers[1].committed), (1, false));
    // Flight sends the same chunk, which is taken once, and commits.
    let rows = stream::iter(all).map(Ok);
    let sent = over_flight()
        .send_data_to_worker(&worker.uri, &key(0), sender(0, 1, 1), schema(), rows)
        .await
        .unwrap();
    assert_eq!(sent.totals.chunks, 1);
    let reader = client(options(Compression::Lz4))
        .request_data(&worker.uri, &key(0), None, ReadOptions::default())
        .await
        .unwrap();
    let got: Vec<RecordBatch> = reader.into_stream().try_collect().await.unwrap();
    assert_eq!(numbers(&got), (0..500).collect::<Vec<_>>());
}
