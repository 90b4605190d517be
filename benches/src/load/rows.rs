//! The rows that Flight clients put.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;

use crate::error::{Error, Result};

/// A schema and batches of it.
pub(super) type Rows = (SchemaRef, Vec<RecordBatch>);

/// Bytes of a row: two integers, and a string of 16 bytes with its offset.
const ROW: u64 = 36;

/// At least `bytes` of batches of a shape: `rows1k`, `mib4`, `mib64`, with
/// `ints` or `text` behind it for columns of one kind, or `one` row; `walk` is
/// what can be compressed: integers that walk at random, and words of a thousand.
pub(super) fn make(shape: &str, bytes: u64) -> Result<Rows> {
    let (size, columns) = shape.split_once('-').unwrap_or((shape, "mixed"));
    let rows = match size {
        "one" => 1,
        "rows1k" => 1_000,
        "mib4" => (4 << 20) / ROW,
        "mib64" => (64 << 20) / ROW,
        other => return Err(Error::Message(format!("no shape {other}"))),
    };
    let batches = (bytes / (rows * ROW)).max(1);
    let all: Vec<RecordBatch> = (0..batches)
        .map(|number| batch(number * rows..(number + 1) * rows, columns))
        .collect::<Result<_>>()?;
    Ok((all[0].schema(), all))
}

fn batch(rows: std::ops::Range<u64>, columns: &str) -> Result<RecordBatch> {
    let number = |row: u64| i64::try_from(row).unwrap_or(i64::MAX);
    let ints = |factor: i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| number(row) * factor)))
    };
    let text = || -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("name-{row:011}"))))
    };
    let walk = |seed: u64| -> ArrayRef {
        let steps = rows.clone().scan(0, |at, row| {
            *at += number(mixed(row * 4 + seed) % 17) - 8;
            Some(*at)
        });
        Arc::new(Int64Array::from_iter_values(steps))
    };
    let word = || -> ArrayRef {
        let words = rows.clone().map(|row| format!("station-{:08}", mixed(row * 4) % 1_000));
        Arc::new(StringArray::from_iter_values(words))
    };
    let columns = match columns {
        "mixed" => vec![("id", ints(1)), ("value", ints(31)), ("name", text())],
        "ints" => vec![("a", ints(1)), ("b", ints(31)), ("c", ints(7)), ("d", ints(-1))],
        "text" => vec![("name", text()), ("other", text())],
        "walk" => vec![("id", walk(1)), ("value", walk(2)), ("word", word())],
        other => return Err(Error::Message(format!("no columns {other}"))),
    };
    RecordBatch::try_from_iter(columns).map_err(|error| Error::Message(error.to_string()))
}

/// A number that looks random: splitmix64.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Bytes of the buffers that hold rows.
pub(super) fn size(batches: &[RecordBatch]) -> u64 {
    let columns = batches.iter().flat_map(|batch| batch.columns());
    let sizes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    sizes.map(|size| size as u64).sum()
}
