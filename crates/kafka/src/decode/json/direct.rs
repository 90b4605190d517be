//! Reads what most messages are straight into columns: objects of texts, numbers,
//! booleans and such objects, as the columns have them.
//!
//! What has to hold: of messages that are read here, arrow-json makes the same
//! rows. Whatever is not surely so makes the whole batch none of ours: a value of
//! another type, an unknown column, one that comes twice, a surrogate, lists. It
//! is arrow-json's then, which also says what is wrong with it.

mod columns;
mod cursor;

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Fields, Schema};

use self::columns::Columns;
use self::cursor::Cursor;
use crate::decode::Value;

/// Batches that are not tried at most after one that was none of ours.
const MOST_SKIPPED: u32 = 64;

/// Reads batches under columns that stay the same; keeps its memory between them.
#[derive(Debug)]
pub(super) struct Direct {
    fields: Fields,
    /// None where columns are of other types.
    columns: Option<Columns>,
    /// Batches that are not tried before the next one.
    skipped: u32,
    /// As many are skipped after the next failure.
    next_skipped: u32,
}

impl Direct {
    pub(super) fn new(fields: &Fields) -> Self {
        let columns = Columns::new(fields);
        Direct { fields: fields.clone(), columns, skipped: 0, next_skipped: 1 }
    }

    pub(super) fn is_for(&self, fields: &Fields) -> bool {
        self.fields == *fields
    }

    /// One row for each value; none where that is not ours to say. After such a
    /// batch some are not tried, for the next ones are likely to be like it.
    pub(super) fn read(&mut self, values: &[Value<'_>]) -> Option<RecordBatch> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        let columns = self.columns.as_mut()?;
        columns.clear();
        let batch = all(columns, values, &self.fields);
        if batch.is_some() {
            self.next_skipped = 1;
        } else {
            self.skipped = self.next_skipped;
            self.next_skipped = (self.next_skipped * 2).min(MOST_SKIPPED);
        }
        batch
    }
}

fn all(columns: &mut Columns, values: &[Value<'_>], fields: &Fields) -> Option<RecordBatch> {
    for value in values {
        let mut cursor = Cursor::new(value.bytes);
        cursor.skip_space();
        columns.read(&mut cursor)?;
        cursor.skip_space();
        if !cursor.is_at_end() {
            return None;
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
    let schema = Arc::new(Schema::new(fields.clone()));
    RecordBatch::try_new_with_options(schema, columns.arrays()?, &options).ok()
}

#[cfg(test)]
mod tests;
