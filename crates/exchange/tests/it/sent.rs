//! What the tests of both faces send, and how long they wait.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use futures::{Stream, stream};
use sheaf_exchange::shuffle::{Error, PartitionKey, Sender};

/// How long a test waits for what must happen.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn key(partition: u32) -> PartitionKey {
    PartitionKey::try_new("query:1", 3, partition).unwrap()
}

pub(crate) fn sender(index: u32, attempt: u64, senders: u32) -> Sender {
    Sender { index, attempt, senders }
}

/// Rows `from..from + rows`: a key of few values, the row's own number, and text.
pub(crate) fn batch(from: i64, rows: usize) -> RecordBatch {
    let numbers: Vec<i64> = (from..).take(rows).collect();
    let keys = numbers.iter().map(|n| n.wrapping_mul(0x9E37_79B9) % 1_009).collect::<Vec<_>>();
    let text = numbers.iter().map(|n| (n % 7 != 0).then(|| format!("row {n} of some length")));
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from(keys))),
        ("number", Arc::new(Int64Array::from(numbers.clone()))),
        ("text", Arc::new(text.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, one)| (name, one, true))).unwrap()
}

pub(crate) fn schema() -> SchemaRef {
    batch(0, 0).schema()
}

/// Batches of rows `from..to`.
pub(crate) fn rows(
    from: i64,
    to: i64,
    step: usize,
) -> impl Stream<Item = Result<RecordBatch, Error>> {
    let starts = (from..to).step_by(step);
    stream::iter(starts.map(move |at| Ok(batch(at, step.min((to - at) as usize)))))
}

pub(crate) fn column(batch: &RecordBatch, at: usize) -> Vec<i64> {
    batch.column(at).as_primitive::<Int64Type>().values().to_vec()
}

/// Ends a test that would hang.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(LONG, future).await;
    ended.unwrap_or_else(|_| panic!("{what} does not end"))
}
