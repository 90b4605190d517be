//! Batches to the messages of their partitions, on one thread.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use arrow_array::RecordBatch;
use clap::Args;
use serde_json::json;
use sheaf_bench::shuffled::{Shape, stock};
use sheaf_exchange::{Partitioner, PartitionerOptions, Partitioning};

use crate::error::{Error, Result};

/// What is partitioned.
#[derive(Debug, Args)]
pub(crate) struct Partition {
    /// Of the rows: ints, mixed, nulls or views.
    shape: Shape,
    /// How many.
    partitions: usize,
    /// How many are measured, after a quarter of them that is not.
    batches: usize,
    /// Most rows of a message; the default is that of the partitioner.
    #[arg(long, value_name = "ROWS")]
    chunk_rows: Option<usize>,
}

pub(super) fn run(load: &Partition) -> Result<()> {
    let failed = |error| Error::Message(format!("batches cannot be made: {error}"));
    let stock = stock(load.shape).map_err(failed)?;
    once(load, &stock, load.batches.div_ceil(4))?;
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    let rows = once(load, &stock, load.batches)?;
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    println!("{}", json!({ "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds }));
    Ok(())
}

/// Rows that came out again.
fn once(load: &Partition, stock: &[RecordBatch], batches: usize) -> Result<u64> {
    let mut options = PartitionerOptions::default();
    options.chunk_rows = load.chunk_rows.unwrap_or(options.chunk_rows);
    let by_key = Partitioning::hash(["key"]);
    let mut partitioner =
        Partitioner::try_new(stock[0].schema(), by_key, load.partitions, options)?;
    let mut rows = 0;
    for batch in stock.iter().cycle().take(batches) {
        let full = black_box(partitioner.push(batch)?);
        rows += full.iter().map(|part| part.rows).sum::<u64>();
    }
    rows += partitioner.finish()?.iter().map(|part| part.rows).sum::<u64>();
    Ok(rows)
}

/// What the only thread has computed so far.
fn cpu_seconds() -> Result<f64> {
    let path = "/proc/self/schedstat";
    let text = fs::read_to_string(path).map_err(Error::io(format!("read {path}")))?;
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    let odd = || Error::Message(format!("{path} has no number: {text:?}"));
    Ok(nanoseconds.ok_or_else(odd)? / 1e9)
}
