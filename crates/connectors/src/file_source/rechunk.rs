//! Batches of exactly the number of rows that was asked for.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::error::Error;

/// Cuts and joins batches: all have `rows` rows, but the last, which has at least one.
///
/// Holds less than `rows` rows beside the batch that it was given last.
/// Batches that have the right size already pass uncopied.
pub(crate) struct Rechunk<I> {
    inner: I,
    schema: SchemaRef,
    place: String,
    rows: usize,
    held: VecDeque<RecordBatch>,
    held_rows: usize,
}

impl<I> Rechunk<I> {
    pub(crate) fn new(inner: I, schema: SchemaRef, place: String, rows: usize) -> Self {
        Rechunk { inner, schema, place, rows, held: VecDeque::new(), held_rows: 0 }
    }

    fn take(&mut self, rows: usize) -> Result<RecordBatch, Error> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let Some(first) = self.held.pop_front() else { break };
            if first.num_rows() > missing {
                self.held.push_front(first.slice(missing, first.num_rows() - missing));
                parts.push(first.slice(0, missing));
                missing = 0;
            } else {
                missing -= first.num_rows();
                parts.push(first);
            }
        }
        self.held_rows -= rows - missing;
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => concat_batches(&self.schema, &parts)
                .map_err(|e| Error::malformed(self.place.clone(), "Arrow data", e)),
        }
    }
}

impl<I: Iterator<Item = Result<RecordBatch, Error>>> Iterator for Rechunk<I> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.held_rows < self.rows {
            match self.inner.next() {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    self.held_rows += batch.num_rows();
                    self.held.push_back(batch);
                }
                Some(Err(error)) => return Some(Err(error)),
                None if self.held_rows == 0 => return None,
                None => break,
            }
        }
        Some(self.take(self.rows.min(self.held_rows)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cut_becomes_exact(sizes in prop::collection::vec(0usize..9, 0..20), rows in 1usize..12) {
            let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
            let mut next = 0i64;
            let input: Vec<_> = sizes.iter().map(|&size| {
                let end = next + i64::try_from(size).unwrap();
                let column = Arc::new(Int64Array::from_iter_values(next..end));
                next = end;
                Ok(RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap())
            }).collect();
            let output: Vec<RecordBatch> = Rechunk::new(input.into_iter(), schema, String::new(), rows)
                .collect::<Result<_, _>>().unwrap();
            let values: Vec<i64> = output.iter()
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
                .collect();
            prop_assert_eq!(values, (0..next).collect::<Vec<_>>());
            let (last, full) = match output.split_last() { Some(parts) => parts, None => return Ok(()) };
            prop_assert!(full.iter().all(|batch| batch.num_rows() == rows));
            prop_assert!((1..=rows).contains(&last.num_rows()));
        }
    }
}
