//! A record batch of one partition, and the memory that it has.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array as _, Int64Array, RecordBatch};
use arrow_data::ArrayData;
use sheaf_flight::{Budget, Full, Piece};

use crate::schema::{OFFSET, TIMESTAMP};

/// What a record batch takes besides its buffers.
const OVERHEAD: u64 = 1_024;
/// The same of each array in it, nested ones too.
const ARRAY_OVERHEAD: u64 = 512;

/// Rows of one partition, in the order of their offsets.
#[derive(Debug)]
pub struct Part {
    /// The partition that all rows are of.
    pub partition: i32,
    /// The rows, with the columns that the stream had when they came.
    pub rows: RecordBatch,
    /// Which schema of the stream that is.
    pub schema_version: u32,
    /// The offset of the first row.
    pub start: i64,
    /// The offset behind the last row.
    pub end: i64,
    pieces: Arc<[Piece]>,
    overhead: u64,
    held: Vec<Held>,
}

impl Part {
    /// Rows that are not counted yet.
    pub fn new(
        partition: i32,
        rows: RecordBatch,
        schema_version: u32,
        offsets: std::ops::Range<i64>,
    ) -> Self {
        let (start, end) = (offsets.start, offsets.end);
        let (mut seen, mut arrays) = (HashSet::new(), 0);
        for column in rows.columns() {
            buffers(&column.to_data(), &mut seen, &mut arrays);
        }
        let (pieces, overhead) = (seen.into_iter().collect(), OVERHEAD + arrays * ARRAY_OVERHEAD);
        Part { partition, rows, schema_version, start, end, pieces, overhead, held: Vec::new() }
    }

    /// Counts its memory against one more budget.
    ///
    /// # Errors
    /// Where there is no room.
    pub(super) fn hold(&mut self, budget: &Arc<Budget>) -> Result<(), Full> {
        budget.hold(&self.pieces, self.overhead)?;
        let (pieces, overhead) = (Arc::clone(&self.pieces), self.overhead);
        self.held.push(Held { budget: Arc::clone(budget), pieces, overhead });
        Ok(())
    }

    /// Counts its memory no more.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }

    /// Bytes that it takes by itself.
    pub fn size_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.1 as u64).sum::<u64>() + self.overhead
    }

    /// Its rows from the first on whose time is not before this.
    pub(super) fn rows_from_time(&self, millis: i64) -> RecordBatch {
        let times = self.rows.column_by_name(TIMESTAMP);
        let times = times.and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
        let Some(times) = times else { return self.rows.clone() };
        let is_late = |row: usize| !times.is_null(row) && times.value(row) >= millis;
        let rows = self.rows.num_rows();
        let skipped = (0..rows).find(|row| is_late(*row)).unwrap_or(rows);
        self.rows.slice(skipped, rows - skipped)
    }
}

/// The offset of each row.
pub(crate) fn offsets(rows: &RecordBatch) -> Option<&Int64Array> {
    rows.column_by_name(OFFSET)?.as_primitive_opt::<Int64Type>()
}

/// Rows of one partition from an offset on.
pub(crate) fn rows_from_offset(rows: &RecordBatch, offset: i64) -> RecordBatch {
    let offsets = offsets(rows).map_or(&[][..], |offsets| offsets.values());
    let skipped = offsets.partition_point(|known| *known < offset);
    rows.slice(skipped, rows.num_rows() - skipped)
}

/// Memory that is counted for as long as this lives.
#[derive(Debug)]
struct Held {
    budget: Arc<Budget>,
    pieces: Arc<[Piece]>,
    overhead: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.release(&self.pieces, self.overhead);
    }
}

/// Address and capacity of every buffer, each once, and the number of arrays.
fn buffers(data: &ArrayData, seen: &mut HashSet<Piece>, arrays: &mut u64) {
    *arrays += 1;
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        if buffer.capacity() > 0 {
            seen.insert((buffer.data_ptr().as_ptr().addr(), buffer.capacity()));
        }
    }
    for child in data.child_data() {
        buffers(child, seen, arrays);
    }
}
