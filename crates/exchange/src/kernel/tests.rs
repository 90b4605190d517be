//! Memory of chunks, and when they are full.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};

use super::{Partitioner, PartitionerOptions, Sealed};
use crate::partition::Partitioning;

const PARTITIONS: usize = 16;

fn batch(rows: i64) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef;
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn partitioner(batch: &RecordBatch, chunk_bytes: usize, memory_bytes: usize) -> Partitioner {
    let options = PartitionerOptions { chunk_bytes, memory_bytes, ..Default::default() };
    let by_turn = Partitioning::RoundRobin;
    Partitioner::try_new(batch.schema(), by_turn, PARTITIONS, options).unwrap()
}

#[test]
fn what_is_open_and_what_is_kept_for_later_stay_within_the_memory_together() {
    let (chunk, memory) = (256 << 10, 4 << 20);
    let batch = batch(8_192);
    let mut partitioner = partitioner(&batch, chunk, memory);
    let mut held: Vec<Sealed> = Vec::new();
    let (mut most, mut reused) = (0, 0);
    for number in 0..2_000 {
        let before = partitioner.budget.spare_bytes();
        held.extend(partitioner.push(&batch).unwrap());
        reused += usize::from(partitioner.budget.spare_bytes() < before);
        // Now and then many come back at once.
        if number % 50 > 10 {
            held.clear();
        }
        let spare = partitioner.budget.spare_bytes();
        let all = partitioner.open_bytes() + spare;
        assert!(all <= memory, "{all} bytes after batch {number}");
        most = most.max(spare);
    }
    assert!(most >= chunk / 2, "{most} bytes were kept at most");
    assert!(reused > 50, "{reused} times some were used");
    drop(partitioner.flush().unwrap());
    assert!(partitioner.budget.spare_bytes() > memory / 2, "nothing else is open");
    assert!(partitioner.budget.spare_bytes() <= memory);
}

#[test]
fn partitions_that_get_as_many_rows_are_not_full_at_the_same_time() {
    let batch = batch(1_024);
    let mut partitioner = partitioner(&batch, 64 << 10, 4 << 20);
    let (mut chunks, mut most) = (0, 0);
    for _ in 0..1_000 {
        let sealed = partitioner.push(&batch).unwrap();
        chunks += sealed.len();
        most = most.max(sealed.len());
    }
    assert!(chunks > 5 * PARTITIONS, "{chunks}");
    assert!(most <= 2, "{most} were full at once");
}
