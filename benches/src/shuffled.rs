//! Batches to partition: what they look like, and the usual way to do it.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, StringViewArray, UInt32Array,
    UInt64Array,
};
use arrow_schema::ArrowError;
use arrow_select::coalesce::BatchCoalescer;
use arrow_select::take::take_record_batch;

/// Rows of a batch.
pub const ROWS: usize = 8_192;

/// Different batches; more would only take longer to make.
pub const STOCK: usize = 64;

/// What the columns of a batch are, beside a key of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Three more of 64 bits.
    Ints,
    /// Numbers of 32 bits of which a tenth is null, floats, and texts of 4 to 27 bytes.
    Mixed,
    /// As the first, with a tenth of null values in each.
    Nulls,
    /// Texts as views, as those of the second.
    Views,
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ints" => Ok(Shape::Ints),
            "mixed" => Ok(Shape::Mixed),
            "nulls" => Ok(Shape::Nulls),
            "views" => Ok(Shape::Views),
            other => Err(format!("no shape {other:?}: choose from ints, mixed, nulls, views")),
        }
    }
}

/// Batches of random rows; peers make the same.
///
/// # Errors
/// None of columns of one length.
pub fn stock(shape: Shape) -> Result<Vec<RecordBatch>, ArrowError> {
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
        let (key, a, b, c) = (numbers(), numbers(), numbers(), numbers());
        let columns =
            [("key", Arc::new(key) as ArrayRef)].into_iter().chain(others(shape, [a, b, c]));
        let columns = columns.map(|(name, column)| (name, column, true));
        stock.push(RecordBatch::try_from_iter_with_nullable(columns)?);
    }
    Ok(stock)
}

fn others(shape: Shape, [a, b, c]: [UInt64Array; 3]) -> [(&'static str, ArrayRef); 3] {
    let some = |value: &u64| (!value.is_multiple_of(10)).then_some(*value);
    let nulls = |values: &UInt64Array| values.values().iter().map(some).collect::<UInt64Array>();
    #[allow(clippy::cast_possible_truncation, reason = "24 bits are left of them")]
    let short = |value: &u64| some(value).map(|value| (value >> 40) as i32);
    let text = |value: &u64| format!("{:01$}", value >> 30, 4 + (value % 24) as usize);
    let floats = |values: &UInt64Array| {
        Float64Array::from_iter_values(values.values().iter().map(|value| *value as f64))
    };
    let columns: [ArrayRef; 3] = match shape {
        Shape::Ints => [Arc::new(a), Arc::new(b), Arc::new(c)],
        Shape::Nulls => [Arc::new(nulls(&a)), Arc::new(nulls(&b)), Arc::new(nulls(&c))],
        Shape::Mixed => [
            Arc::new(a.values().iter().map(short).collect::<Int32Array>()),
            Arc::new(floats(&b)),
            Arc::new(StringArray::from_iter_values(c.values().iter().map(text))),
        ],
        Shape::Views => {
            let views = |values: &UInt64Array| {
                StringViewArray::from_iter_values(values.values().iter().map(text))
            };
            [Arc::new(views(&a)), Arc::new(views(&b)), Arc::new(views(&c))]
        }
    };
    let [a, b, c] = columns;
    [("a", a), ("b", b), ("c", c)]
}

/// The usual way: rows of each partition are taken of each batch, and what was
/// taken is put together to batches of 8,192 rows.
#[derive(Debug)]
pub struct TakeAndCoalesce {
    partitions: usize,
    coalescers: Vec<BatchCoalescer>,
}

impl TakeAndCoalesce {
    /// For batches like this one.
    pub fn new(batch: &RecordBatch, partitions: usize) -> Self {
        let coalescer = |_| BatchCoalescer::new(batch.schema(), ROWS);
        TakeAndCoalesce { partitions, coalescers: (0..partitions).map(coalescer).collect() }
    }

    /// Partitions a batch by the ids of its rows; gives what is full.
    ///
    /// # Errors
    /// None of plain types.
    pub fn push(
        &mut self,
        batch: &RecordBatch,
        ids: &[u32],
    ) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut rows = vec![Vec::new(); self.partitions];
        for (row, id) in (0..).zip(ids) {
            rows[*id as usize].push(row);
        }
        let mut full = Vec::new();
        for (coalescer, rows) in self.coalescers.iter_mut().zip(rows) {
            if rows.is_empty() {
                continue;
            }
            coalescer.push_batch(take_record_batch(batch, &UInt32Array::from(rows))?)?;
            full.extend(std::iter::from_fn(|| coalescer.next_completed_batch()));
        }
        Ok(full)
    }
}
