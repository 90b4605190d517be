//! An inner hash join of two inputs: the first is kept, the second passes by.

use std::collections::HashMap;

use arrow_array::{Array as _, ArrayRef, RecordBatch, UInt32Array};
use arrow_row::{OwnedRow, RowConverter, Rows, SortField};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use crate::workers::{Error, Reducer};

/// Joins where all keys are equal; a null is equal to nothing.
pub(crate) struct HashJoin {
    keys: &'static [&'static str],
    converter: Option<RowConverter>,
    kept: Vec<RecordBatch>,
    /// Rows of all that is kept, by key.
    rows: HashMap<OwnedRow, Vec<u32>>,
    count: u32,
}

impl HashJoin {
    pub(crate) fn new(keys: &'static [&'static str]) -> Self {
        HashJoin { keys, converter: None, kept: Vec::new(), rows: HashMap::new(), count: 0 }
    }

    /// The keys of each row, and whether one of them is null.
    fn keys_of(&mut self, batch: &RecordBatch) -> Result<(Rows, Vec<bool>), Error> {
        let columns = self.keys.iter().map(|key| {
            batch.column_by_name(key).cloned().ok_or_else(|| format!("there is no column {key}"))
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let is_null = |row| columns.iter().any(|column| column.is_null(row));
        let nulls = (0..batch.num_rows()).map(is_null).collect();
        let types = columns.iter().map(|column| SortField::new(column.data_type().clone()));
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => none.insert(RowConverter::new(types.collect())?),
        };
        Ok((converter.convert_columns(&columns)?, nulls))
    }

    fn keep(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let (keys, nulls) = self.keys_of(batch)?;
        for (key, is_null) in keys.iter().zip(nulls) {
            if !is_null {
                self.rows.entry(key.owned()).or_default().push(self.count);
            }
            self.count += 1;
        }
        self.kept.push(batch.clone());
        Ok(())
    }

    fn join(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        if self.kept.len() > 1 {
            self.kept = vec![concat_batches(&self.kept[0].schema(), &self.kept)?];
        }
        let (keys, nulls) = self.keys_of(batch)?;
        let (mut passing, mut kept) = (Vec::new(), Vec::new());
        for ((row, key), is_null) in (0_u32..).zip(&keys).zip(nulls) {
            let found = self.rows.get(&key.owned()).filter(|_| !is_null);
            for at in found.into_iter().flatten() {
                passing.push(row);
                kept.push(*at);
            }
        }
        let Some(first) = self.kept.first() else { return Ok(None) };
        let passing = take_record_batch(batch, &UInt32Array::from(passing))?;
        let kept = take_record_batch(first, &UInt32Array::from(kept))?;
        self.side_by_side(&passing, &kept).map(Some)
    }

    /// All columns of both, the keys once.
    fn side_by_side(&self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, Error> {
        let (schema, keys) = (right.schema(), self.keys);
        let is_new = |at: &usize| !keys.contains(&schema.field(*at).name().as_str());
        let right =
            right.project(&(0..schema.fields().len()).filter(is_new).collect::<Vec<_>>())?;
        let (left_schema, right_schema) = (left.schema(), right.schema());
        let fields = left_schema.fields().iter().chain(right_schema.fields()).cloned();
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let columns = left.columns().iter().chain(right.columns()).cloned();
        Ok(RecordBatch::try_new(schema.into(), columns.collect())?)
    }
}

impl Reducer for HashJoin {
    fn push(&mut self, input: usize, batch: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        if input == 0 { self.keep(batch).map(|()| None) } else { self.join(batch) }
    }
}
