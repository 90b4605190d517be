//! The kernel of DataFusion's `RepartitionExec`, as a peer of the bench `exchange`.
//!
//! ```text
//! datafusion HOW SHAPE PARTITIONS BATCHES
//! ```
//!
//! HOW is `take` (a batch for each partition of each batch), `coalesce` (those
//! put together to batches of 8,192 rows, as `RepartitionExec` does right after)
//! `encode` (these as messages of Arrow IPC) or `same` (messages as large as ours
//! are by default: 4 MiB, or what all partitions together leave of 64). Prints one line of JSON.
//! The rows are those of `sheaf-bench load partition`.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::BatchCoalescer;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use datafusion_physical_expr::expressions::col;
use datafusion_physical_plan::metrics::Time;
use datafusion_physical_plan::repartition::BatchPartitioner;

const ROWS: usize = 8_192;

/// Different batches; more would only take longer to make.
const STOCK: usize = 64;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [how, shape, partitions, batches] = arguments.as_slice() else {
        return Err(
            "usage: datafusion take|coalesce|encode|same ints|mixed PARTITIONS BATCHES".into()
        );
    };
    let (partitions, batches): (usize, usize) = (partitions.parse()?, batches.parse()?);
    let stock = stock(shape)?;
    run(how, &stock, partitions, batches.div_ceil(4))?;
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    let rows = run(how, &stock, partitions, batches)?;
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    if rows != batches * ROWS {
        return Err(format!("{rows} rows of {}", batches * ROWS).into());
    }
    println!(
        "{}",
        serde_json::json!({ "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds })
    );
    Ok(())
}

/// What the only thread has computed so far.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

fn run(how: &str, stock: &[RecordBatch], partitions: usize, batches: usize) -> Result<usize> {
    let schema = stock[0].schema();
    let key = vec![col("key", &schema)?];
    let mut partitioner = BatchPartitioner::new_hash_partitioner(key, partitions, Time::new())?;
    let target = if how == "same" { same_rows(stock, partitions) } else { ROWS };
    let mut coalescers: Vec<BatchCoalescer> =
        (0..partitions).map(|_| BatchCoalescer::new(Arc::clone(&schema), target)).collect();
    let mut encoder = matches!(how, "encode" | "same").then(Encoder::default);
    let mut rows = 0;
    for index in 0..batches {
        partitioner.partition(stock[index % stock.len()].clone(), |partition, batch| {
            if how == "take" {
                rows += black_box(batch).num_rows();
                return Ok(());
            }
            let coalescer = &mut coalescers[partition];
            coalescer.push_batch(batch)?;
            while let Some(batch) = coalescer.next_completed_batch() {
                rows += batch.num_rows();
                match &mut encoder {
                    Some(encoder) => encoder.encode(&batch)?,
                    None => drop(black_box(batch)),
                }
            }
            Ok(())
        })?;
    }
    for coalescer in &mut coalescers {
        coalescer.finish_buffered_batch()?;
        while let Some(batch) = coalescer.next_completed_batch() {
            rows += batch.num_rows();
            if let Some(encoder) = &mut encoder {
                encoder.encode(&batch)?;
            }
        }
    }
    Ok(rows)
}

/// Rows of a message of ours.
fn same_rows(stock: &[RecordBatch], partitions: usize) -> usize {
    let columns = stock[0].columns().iter().map(|column| column.to_data());
    let sizes = columns.map(|data| data.get_slice_memory_size().unwrap_or(0));
    let bytes = (4_usize << 20).min((64 << 20) / partitions);
    bytes * ROWS / sizes.sum::<usize>().max(1)
}

/// What makes messages of batches.
struct Encoder {
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder {
            generator: IpcDataGenerator::default(),
            tracker: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }
}

impl Encoder {
    fn encode(&mut self, batch: &RecordBatch) -> std::result::Result<(), arrow::error::ArrowError> {
        let message =
            self.generator.encode(batch, &mut self.tracker, &self.options, &mut self.context)?;
        black_box(message);
        Ok(())
    }
}

/// Batches of random rows, those of the other side.
fn stock(shape: &str) -> Result<Vec<RecordBatch>> {
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut numbers = || UInt64Array::from_iter_values((0..ROWS).map(|_| random()));
    let mut stock = Vec::with_capacity(STOCK);
    for _ in 0..STOCK {
        let key = numbers();
        let (a, b, c) = (numbers(), numbers(), numbers());
        let columns: [(&str, ArrayRef); 4] = match shape {
            "ints" => {
                [("key", Arc::new(key)), ("a", Arc::new(a)), ("b", Arc::new(b)), ("c", Arc::new(c))]
            }
            "mixed" => {
                let some = |value: &u64| (value % 10 > 0).then_some((value >> 40) as i32);
                let text = |value: &u64| format!("{:01$}", value >> 30, 4 + (value % 24) as usize);
                [
                    ("key", Arc::new(key)),
                    ("a", Arc::new(a.values().iter().map(some).collect::<Int32Array>())),
                    (
                        "b",
                        Arc::new(Float64Array::from_iter_values(
                            b.values().iter().map(|value| *value as f64),
                        )),
                    ),
                    ("c", Arc::new(StringArray::from_iter_values(c.values().iter().map(text)))),
                ]
            }
            other => return Err(format!("no shape {other:?}").into()),
        };
        stock.push(RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        )?);
    }
    Ok(stock)
}
