//! Every row once: partitions, senders, attempts, pages.

use futures::StreamExt as _;
use sheaf_exchange::service::{Compression, ShuffleSettings, check_schema_compatibility};
use sheaf_exchange::shuffle::{Error, PartitionKey, ReadOptions, ShufflePlan};
use sheaf_exchange::{Partitioning, partition_ids};
use sheaf_proto::exchange::v1::ShuffleConfig;
use sheaf_retry::{Code, Retryable as _};

use super::world::{
    LONG, Worker, batch, client, key, numbers, options, plain, read, read_all, rows, schema,
    sender, soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shuffle_by_a_config_that_travelled_has_each_row_in_its_partition() {
    let workers = [Worker::new().await, Worker::new().await];
    // With more partitions than lanes, and with fewer.
    for (stage, partitions) in [(1, 3), (2, 40)] {
        let settings = ShuffleSettings {
            compression: Compression::Snappy,
            chunk_bytes: 8 << 10,
            ..ShuffleSettings::new(Partitioning::hash(["key"]), partitions)
        };
        let travelled = ShuffleConfig::try_from(&settings).unwrap();
        let settings = ShuffleSettings::try_from(&travelled).unwrap();
        let plan = ShufflePlan {
            query: "query:1".to_owned(),
            stage,
            sender: sender(0, 1, 1),
            workers: workers.iter().map(|worker| worker.uri.clone()).collect(),
            partitions,
        };
        let client = plain();
        let sent = client.perform_shuffle(&plan, &settings, schema(), rows(0, 20_000, 900));
        let sent = soon("the shuffle", sent).await.unwrap();
        assert_eq!(sent.iter().map(|one| one.totals.rows).sum::<u64>(), 20_000);
        let mut all = Vec::new();
        for partition in 0..partitions {
            let peer = plan.worker_of(partition).unwrap();
            let key = PartitionKey::try_new("query:1", stage, partition).unwrap();
            let reader = client.request_data(peer, &key, None, ReadOptions::default()).await;
            let mut rows = reader.unwrap().into_stream();
            while let Some(batch) = rows.next().await {
                let batch = batch.unwrap();
                let rule = Partitioning::hash(["key"]);
                let ids = partition_ids(&batch, &rule, partitions as usize).unwrap();
                assert!(ids.iter().all(|id| *id == partition));
                all.extend(numbers(&[batch]));
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..20_000).collect::<Vec<_>>());
        let other = ShufflePlan { partitions: partitions + 1, ..plan };
        let refused = client.perform_shuffle(&other, &settings, schema(), rows(0, 1, 1)).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_do_not_touch_each_other_and_a_second_attempt_replaces_the_first() {
    let (worker, client) = (Worker::new().await, plain());
    let send = |index, attempt, from, to| {
        let sender = sender(index, attempt, 2);
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move { client.stream_data(&uri, &key(0), sender, schema(), rows(from, to, 100)).await }
    };
    send(0, 1, 0, 1_000).await.unwrap();
    let unready = read(&client, &worker.uri, 0).await.unwrap_err();
    assert_eq!(unready.code(), Code::Unavailable, "{unready}");
    send(1, 1, 5_000, 5_500).await.unwrap();
    // The first sender has begun anew: all of its rows are others.
    send(0, 2, 1_000, 3_000).await.unwrap();
    let mut got = read(&client, &worker.uri, 0).await.unwrap();
    got.sort_unstable();
    assert_eq!(got, (1_000..3_000).chain(5_000..5_500).collect::<Vec<_>>());
    let late = send(0, 1, 0, 1_000).await.unwrap_err();
    assert_eq!(late.code(), Code::StaleFence, "{late}");
    let read_already = send(0, 3, 0, 1_000).await.unwrap_err();
    assert!(matches!(&read_already, Error::Send(_)), "{read_already}");
    assert_eq!(read_already.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_one_call_may_be_sent_again() {
    let (worker, client) = (Worker::new().await, client(options(Compression::Zstd)));
    let batches = [batch(0, 3_000), batch(3_000, 2_000)];
    for _ in 0..2 {
        let (key, sender) = (key(0), sender(0, 1, 1));
        let sent = client.send_results(&worker.uri, &key, sender, schema(), &batches);
        let sent = sent.await.unwrap();
        assert_eq!(sent.totals.rows, 5_000);
        assert!(sent.totals.chunks > 5);
    }
    assert_eq!(read(&client, &worker.uri, 0).await.unwrap(), (0..5_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_consumes_frees_memory_while_a_partition_grows() {
    let (worker, client) = (Worker::new().await, plain());
    let (feed, fed) = tokio::sync::mpsc::channel(1);
    let fed = futures::stream::unfold(fed, |mut fed| async move { Some((fed.recv().await?, fed)) });
    let sending = tokio::spawn({
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move { client.stream_data(&uri, &key(0), sender(0, 1, 1), schema(), fed).await }
    });
    let options = ReadOptions {
        pipelined: true,
        consume: true,
        max_bytes: 32 << 10,
        wait: LONG,
        ..ReadOptions::default()
    };
    feed.send(Ok(batch(0, 5_000))).await.unwrap();
    let mut reader = client.request_data(&worker.uri, &key(0), None, options).await.unwrap();
    // Rows come before the sender has ended.
    let first = soon("the first rows", reader.next()).await.unwrap().unwrap();
    let mut most = 0;
    let mut got = numbers(&[first]);
    for at in 1..20 {
        feed.send(Ok(batch(at * 5_000, 5_000))).await.unwrap();
        while got.len() < at as usize * 5_000 - 1_000 {
            let rows = soon("more rows", reader.next()).await.unwrap().unwrap();
            got.extend(numbers(&[rows]));
            most = most.max(worker.budget.used());
        }
    }
    drop(feed);
    got.extend(soon("the rest", read_all(reader)).await.unwrap());
    assert_eq!(got, (0..100_000).collect::<Vec<_>>());
    let sent = sending.await.unwrap().unwrap();
    assert!(most < sent.bytes / 3, "{most} of {} bytes were there at once", sent.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_told_with_its_schema_and_cleaned_up() {
    let (worker, client) = (Worker::new().await, plain());
    for partition in 0..2 {
        let to = 1_000 * (i64::from(partition) + 1);
        let key = key(partition);
        let rows = rows(0, to, 500);
        client.stream_data(&worker.uri, &key, sender(0, 1, 1), schema(), rows).await.unwrap();
    }
    let there = client.get_available_partitions(&worker.uri, "query:1", 3, true).await.unwrap();
    let known = worker.exchange.get_available_partitions("query:1", 3).unwrap().partitions;
    assert_eq!(there.len(), 2);
    for (told, known) in there.iter().zip(&known) {
        assert_eq!((told.partition, told.ready, told.rows), (known.partition, true, known.rows));
        assert_eq!((told.bytes, told.chunks), (known.bytes, known.chunks));
        assert_eq!(format!("{:08x}", told.checksum), known.checksum);
        let told = told.schema.as_ref().unwrap();
        assert_eq!(told.fingerprint, known.schema);
        let told = sheaf_exchange::service::deserialize_schema(told).unwrap();
        check_schema_compatibility(&told, &schema()).unwrap();
    }
    let short = client.get_available_partitions(&worker.uri, "query:1", 3, false).await.unwrap();
    assert!(short.iter().all(|one| one.schema.as_ref().unwrap().ipc_schema.is_empty()));
    let nothing = client.get_available_partitions(&worker.uri, "query:1", 4, false).await;
    assert_eq!(nothing.unwrap_err().code(), Code::NotFound);

    assert_eq!(client.cleanup_query_data(&worker.uri, "query:1").await.unwrap(), 2);
    assert_eq!(client.cleanup_query_data(&worker.uri, "query:1").await.unwrap(), 0);
    assert_eq!(worker.budget.used(), 0);
    let (key, sender) = (key(0), sender(0, 2, 1));
    let late = client.stream_data(&worker.uri, &key, sender, schema(), rows(0, 9, 9));
    assert_eq!(late.await.unwrap_err().code(), Code::FailedPrecondition);
}
