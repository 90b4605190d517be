//! What a partition keeps of each sender.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use sheaf_exchange::shuffle::{Exchange, PartitionKey, ReceiverOptions, Sender, Totals};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{Budget, Message};
use sheaf_retry::SystemClock;

use super::{ONE_AT_A_TIME, heap};

const SENDERS: u32 = 1_000;
const LONG: Duration = Duration::from_secs(60);

fn key(partition: u32) -> PartitionKey {
    PartitionKey::try_new("query", 1, partition).unwrap()
}

fn messages() -> Vec<Message> {
    let column = |from: i64| Arc::new(Int64Array::from_iter_values(from..from + 8)) as ArrayRef;
    let columns = (0..6).map(|at| (format!("column_{at}"), column(at)));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    encode_batches(batch.schema(), &[batch]).unwrap()
}

/// Each sender of so many partitions commits, with this many chunks.
fn fill(exchange: &Exchange, messages: &[Message], partitions: u32, chunks: usize) {
    for partition in 0..partitions {
        let key = key(partition);
        for index in 0..SENDERS {
            let sender = Sender { index, attempt: 1, senders: SENDERS };
            // Each has memory of its own, as what comes over the wire has.
            let schema = own(&messages[0]);
            exchange.begin(&key, sender, &schema).unwrap();
            for (sequence, chunk) in messages[1..=chunks].iter().enumerate() {
                exchange.push(&key, sender, sequence as u64, None, own(chunk)).unwrap();
            }
            let rows = 8 * chunks as u64;
            exchange.commit(&key, sender, Totals { chunks: chunks as u64, rows }).unwrap();
        }
    }
}

fn own(message: &Message) -> Message {
    Message::new(message.header.to_vec().into(), message.contiguous_body().to_vec().into())
}

/// Partitions and senders of a terabyte: 10,000 by 1,000, a tenth of it in short.
#[tokio::test]
async fn soak_cells_take_at_most_a_hundred_bytes_each() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let partitions = if sheaf_testkit::soak() { 10_000 } else { 1_000 };
    let cells = (partitions * SENDERS) as usize;
    let messages = messages();
    let budget = Budget::new(8 << 30);
    let exchange = Exchange::new(Arc::clone(&budget), SystemClock::shared());
    let before = heap();
    fill(&exchange, &messages, partitions, 0);
    let (real, counted) = (heap() - before, budget.used() as usize);
    println!("{} bytes a cell, {} counted", real / cells, counted / cells);
    assert!(real <= 100 * cells, "{} bytes a cell", real / cells);
    assert!(real <= counted, "{real} bytes are in use, {counted} are counted");
    assert!(counted <= real + real / 4, "{real} bytes are in use, {counted} are counted");
    exchange.cleanup_query_data("query").unwrap();
    assert_eq!(budget.used(), 0);
    let left = heap().saturating_sub(before);
    assert!(left < 1 << 20, "{left} bytes are left");
}

#[tokio::test]
async fn chunks_in_memory_are_counted_with_all_that_they_take() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let messages = messages();
    let budget = Budget::new(8 << 30);
    let exchange = Exchange::new(Arc::clone(&budget), SystemClock::shared());
    let before = heap();
    fill(&exchange, &messages, 50, 1);
    let (real, counted) = (heap() - before, budget.used() as usize);
    println!("{real} bytes are in use, {counted} are counted");
    assert!(real <= counted && counted <= real + real / 4, "{real} in use, {counted} counted");
    exchange.cleanup_query_data("query").unwrap();
    assert_eq!(budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_a_chunk_on_disk_a_cell_takes_little_more() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cells = 250 * SENDERS as usize;
    let messages = messages();
    let directory = tempfile::tempdir().unwrap();
    let budget = Budget::new(80 << 20);
    let options = ReceiverOptions::new(Arc::clone(&budget), SystemClock::shared());
    let exchange = Exchange::open(options.with_spill(directory.path(), 8 << 30)).await.unwrap();
    let before = heap();
    let (filling, all) = (exchange.clone(), messages.clone());
    tokio::task::spawn_blocking(move || fill(&filling, &all, 250, 1)).await.unwrap();
    let message = messages[1].len();
    let resident = || exchange.stats(None).queries[0].stages[0].memory_bytes as usize;
    // Without the few chunks that are in memory, and once those are free that left it.
    let per_cell = || {
        let chunks = resident() / message;
        heap().saturating_sub(before + chunks * (message + 320)) / cells
    };
    let is_small = || async { per_cell() <= 140 };
    let small = sheaf_testkit::wait_until_async(LONG, "little memory", is_small).await;
    println!("{} bytes a cell, {} MiB in memory", per_cell(), resident() >> 20);
    assert!(small.is_ok(), "{} bytes a cell", per_cell());
    let spilled = exchange.stats(None).queries[0].stages[0].spilled_bytes as usize;
    assert!(spilled > cells * message * 3 / 4, "{spilled} bytes are on disk");
    exchange.cleanup_query_data("query").unwrap();
    // What was being moved goes with that.
    let is_free = || async { budget.used() == 0 };
    sheaf_testkit::wait_until_async(LONG, "memory to be free", is_free).await.unwrap();
}
