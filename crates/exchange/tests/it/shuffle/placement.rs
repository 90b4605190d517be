//! Who gets which partition, and what becomes of those of a worker that dies.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_exchange::Partitioning;
use sheaf_exchange::shuffle::ShufflePlan;

use super::world::{Worker, client, key, numbers, options, read, rows, schema, sender};

const PARTITIONS: u32 = 6;
const SENDERS: u32 = 2;
const ROWS: i64 = 3_000;

fn plan(workers: &[String], index: u32, attempt: u64) -> ShufflePlan {
    ShufflePlan {
        query: key(0).query().to_owned(),
        stage: key(0).stage(),
        sender: sender(index, attempt, SENDERS),
        workers: workers.to_vec(),
        partitions: PARTITIONS,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitions_of_a_dead_worker_are_sent_to_others_and_no_others_are_sent() {
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Worker::new().await);
    }
    let all: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
    let client = client(options());
    let before = client.choose_receivers(&all, PARTITIONS).await.unwrap();
    assert_eq!(before.workers.iter().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
    let rows = |index: u32| {
        let first = i64::from(index) * ROWS;
        rows(first, first + ROWS, 500)
    };
    let by_key = || Partitioning::hash(["key"]);
    for index in 0..SENDERS {
        let plan = plan(&before.workers, index, 1);
        client.perform_shuffle(&plan, by_key(), schema(), rows(index)).await.unwrap();
    }

    let dead = workers.remove(1);
    dead.handle.drain(Duration::ZERO).await;
    let gone = [dead.uri.clone()];
    let after = client.replace_receivers(&before, &gone, &all).await.unwrap();
    let moved = before.moved(&after);
    assert_eq!(moved.len(), 2, "{after:?}");
    for index in 0..SENDERS {
        let plan = plan(&after.workers, index, 2);
        let sent = client.perform_shuffle_of(&plan, &moved, by_key(), schema(), rows(index)).await;
        let sent: Vec<u32> = sent.unwrap().iter().map(|one| one.key.partition()).collect();
        assert_eq!(sent, moved);
    }
    let mut all_rows = Vec::new();
    for (partition, worker) in (0..).zip(&after.workers) {
        all_rows.extend(read(&client, worker, partition).await.unwrap());
    }
    assert_eq!(numbers(&all_rows), (0..i64::from(SENDERS) * ROWS).collect::<Vec<_>>());
    let none =
        client.perform_shuffle_of(&plan(&all, 0, 3), &[6], by_key(), schema(), rows(0)).await;
    assert!(none.unwrap_err().to_string().contains("partition 6"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_chosen_by_what_they_say_of_themselves() {
    let roomy = Worker::with_memory(64 << 20).await;
    let narrow = Worker::with_memory(16 << 20).await;
    let ending = Worker::new().await;
    ending.exchange.drain();
    let nobody = Worker::new().await;
    let all = [&roomy, &narrow, &ending, &nobody].map(|worker| worker.uri.clone());
    nobody.handle.drain(Duration::ZERO).await;
    let client = client(options());
    let placement = client.choose_receivers(&all, 10).await.unwrap();
    let of = |worker: &Worker| placement.workers.iter().filter(|uri| **uri == worker.uri).count();
    assert_eq!((of(&roomy), of(&narrow)), (8, 2), "{placement:?}");
    let left_out: Vec<_> = placement.left_out.iter().map(|(worker, _)| worker.clone()).collect();
    assert_eq!(left_out, all[2..]);
    let nobody = client.choose_receivers(&all[2..], 10).await.unwrap_err().to_string();
    assert!(nobody.contains("about to end"), "{nobody}");
    // What a worker holds is in what it says.
    let rows = rows(0, 20_000, 1_000);
    let (to, one) = (&roomy.uri, key(0));
    let sent = client.send_data_to_worker(to, &one, sender(0, 1, 1), schema(), rows).await;
    let bytes = sent.unwrap().bytes;
    let load = client.get_worker_load(&roomy.uri).await.unwrap();
    assert!(load.memory_bytes >= bytes, "{load:?}");
    assert_eq!((load.partitions, load.open_attempts, load.draining), (1, 0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_partitions_than_there_can_be_are_refused_before_anything_is_made_of_them() {
    let plan =
        ShufflePlan { partitions: u32::MAX, ..plan(&["grpc://127.0.0.1:1".to_owned()], 0, 1) };
    let client = client(options());
    let error = client.perform_hash_shuffle(&plan, ["key"], schema(), rows(0, 1, 1)).await;
    let error = error.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("1 to 65536"), "{why}");
}
