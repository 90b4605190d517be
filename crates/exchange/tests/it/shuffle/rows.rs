//! Every row exactly once, and equal keys together.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use futures::future::try_join_all;
use sheaf_exchange::shuffle::{Error, ExchangeOptions, ReadOptions, ShufflePlan};
use sheaf_exchange::{ChunkCompression, PartitionerOptions};
use sheaf_retry::{Code, Retryable as _};

use super::world::{
    Worker, batch, batches, client, key, numbers, options, read, read_all, rows, schema, sender,
    soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_to_all_gives_every_row_once_and_equal_keys_together() {
    const WORKERS: u32 = 3;
    const PARTITIONS: u32 = 7;
    const ROWS: i64 = 20_000;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Worker::new().await);
    }
    let uris: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
    let plan = |index: u32| ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(index, 1, WORKERS),
        workers: uris.clone(),
        partitions: PARTITIONS,
    };
    let sends = (0..WORKERS).zip(&workers).map(|(index, worker)| {
        let (client, plan) = (worker.client(), plan(index));
        let from = i64::from(index) * ROWS;
        async move {
            let rows = rows(from, from + ROWS, 1 + 700 * (index as usize + 1));
            client.perform_hash_shuffle(&plan, ["key"], schema(), rows).await
        }
    });
    let sent = soon("the shuffle", try_join_all(sends)).await.unwrap();
    for of_sender in &sent {
        assert_eq!(of_sender.len() as u32, PARTITIONS);
        let total: u64 = of_sender.iter().map(|one| one.totals.rows).sum();
        assert_eq!(total, ROWS as u64);
    }

    let mut all = Vec::new();
    let mut partition_of = HashMap::new();
    for partition in 0..PARTITIONS {
        let owner = plan(0).worker_of(partition).unwrap().to_owned();
        // Over the wire, and by the owner itself without.
        let far = soon("a read", read(&client(options()), &owner, partition)).await.unwrap();
        let own = &workers[(partition % WORKERS) as usize];
        assert_eq!(own.uri, owner);
        assert_eq!(read(&own.client(), &owner, partition).await.unwrap(), far);
        for (key, _) in &far {
            let seen = *partition_of.entry(*key).or_insert(partition);
            assert_eq!(seen, partition, "key {key} is in two partitions");
        }
        all.extend(far);
    }
    assert_eq!(numbers(&all), (0..i64::from(WORKERS) * ROWS).collect::<Vec<_>>());
    assert_eq!(partition_of.values().collect::<std::collections::HashSet<_>>().len(), 7);

    let cleaned = client(options()).cleanup_query_data(&uris, "query:1").await.unwrap();
    assert_eq!(cleaned as u32, PARTITIONS);
    for worker in &workers {
        assert_eq!(worker.budget.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_gives_all_rows_to_each() {
    let workers = [Worker::new().await, Worker::new().await];
    let plan = ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(0, 1, 1),
        workers: workers.iter().map(|worker| worker.uri.clone()).collect(),
        partitions: 1,
    };
    let client = workers[0].client();
    let sent = client.perform_broadcast(&plan, schema(), rows(0, 900, 100)).await.unwrap();
    assert_eq!(sent.len(), 2);
    for (partition, worker) in (0..).zip(&workers) {
        let got = read(&client, &worker.uri, partition).await.unwrap();
        assert_eq!(numbers(&got), (0..900).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_rows_is_committed_and_has_its_schema() {
    let worker = Worker::new().await;
    let (client, key) = (client(options()), key(0));
    let send = client.send_data_to_worker(
        &worker.uri,
        &key,
        sender(0, 1, 1),
        schema(),
        batches(vec![batch(0, 0)]),
    );
    assert_eq!(send.await.unwrap().totals.rows, 0);
    let (options, wanted) = (ReadOptions::default(), schema());
    let reader = client.request_data_from_worker(&worker.uri, &key, Some(&wanted), options);
    let reader = reader.await.unwrap();
    assert_eq!(reader.schema(), schema());
    assert!(read_all(reader).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_here_is_read_here_without_a_copy_and_elsewhere_over_the_wire() {
    let worker = Worker::new().await;
    let local = worker.client();
    let four = key(4);
    let stored =
        local.store_intermediate_results(&four, sender(0, 1, 1), schema(), rows(0, 3_000, 500));
    assert_eq!(stored.await.unwrap().totals.rows, 3_000);
    let used = worker.budget.used();
    let mut reader = local
        .request_data_from_worker(&worker.uri, &key(4), None, ReadOptions::default())
        .await
        .unwrap();
    let first = reader.next().await.unwrap().unwrap();
    let mut again = local
        .request_data_from_worker(&worker.uri, &key(4), None, ReadOptions::default())
        .await
        .unwrap();
    let same = again.next().await.unwrap().unwrap();
    let address =
        |batch: &arrow_array::RecordBatch| batch.column(1).to_data().buffers()[0].as_ptr();
    assert_eq!(address(&first), address(&same));
    assert_eq!(worker.budget.used(), used);
    let far = read(&client(options()), &worker.uri, 4).await.unwrap();
    assert_eq!(numbers(&far), (0..3_000).collect::<Vec<_>>());

    let nobody = client(options());
    let error =
        nobody.store_intermediate_results(&key(4), sender(0, 1, 1), schema(), rows(0, 1, 1)).await;
    assert_eq!(error.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_schema_is_refused_on_both_sides() {
    let worker = Worker::new().await;
    let client = client(options());
    let zero = key(0);
    let first =
        client.send_data_to_worker(&worker.uri, &zero, sender(0, 1, 2), schema(), rows(0, 10, 10));
    first.await.unwrap();
    let other = batch(0, 5).project(&[1, 0]).unwrap();
    let second = client.send_data_to_worker(
        &worker.uri,
        &zero,
        sender(1, 1, 2),
        other.schema(),
        batches(vec![other.clone()]),
    );
    let error = second.await.unwrap_err();
    assert!(matches!(error, Error::Send(_)), "{error}");
    assert_eq!(error.code(), Code::FailedPrecondition);

    let reader = client
        .request_data_from_worker(
            &worker.uri,
            &key(0),
            Some(&other.schema()),
            ReadOptions { pipelined: true, ..ReadOptions::default() },
        )
        .await;
    let Err(Error::Fetch(failed)) = reader else { panic!("{reader:?}") };
    assert_eq!(failed.cause.code(), Code::FailedPrecondition, "{failed}");
    assert!(failed.cause.to_string().contains("2 are expected"), "{}", failed.cause);
}

/// Bytes on the wire of one partition with text that repeats, or of random numbers.
async fn bytes_sent(compression: ChunkCompression, is_random: bool) -> u64 {
    let worker = Worker::new().await;
    let partitioner = PartitionerOptions { compression, ..options().partitioner };
    let client = client(ExchangeOptions { partitioner, ..options() });
    let random = |n: i64| n.wrapping_mul(n ^ 0x9E37_79B9_7F4A_7C15_u64.cast_signed());
    let whole = batch(0, 40_000);
    let noise: ArrayRef = Arc::new(Int64Array::from_iter_values((1..40_001).map(random)));
    let noise = RecordBatch::try_from_iter([("key", noise.clone()), ("number", noise)]).unwrap();
    let sent = if is_random { noise } else { whole };
    let key = key(0);
    let send = client.send_data_to_worker(
        &worker.uri,
        &key,
        sender(0, 1, 1),
        sent.schema(),
        batches(vec![sent.clone()]),
    );
    let bytes = send.await.unwrap().bytes;
    let got = read(&client, &worker.uri, 0).await.unwrap();
    let expected = super::world::column(&sent, 0).into_iter().zip(super::world::column(&sent, 1));
    assert_eq!(got, expected.collect::<Vec<_>>());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_shrinks_is_smaller_on_the_wire_and_what_does_not_is_sent_as_it_is() {
    let plain = bytes_sent(ChunkCompression::None, false).await;
    let auto = bytes_sent(ChunkCompression::Auto, false).await;
    for packed in [
        auto,
        bytes_sent(ChunkCompression::Lz4, false).await,
        bytes_sent(ChunkCompression::Zstd, false).await,
    ] {
        assert!(packed < plain / 2, "{packed} of {plain} bytes");
    }
    let plain = bytes_sent(ChunkCompression::None, true).await;
    assert_eq!(bytes_sent(ChunkCompression::Auto, true).await, plain);
}
