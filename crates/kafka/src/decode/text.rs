//! Values that are one column: text and bytes.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields};

use super::{Group, Rejected, Value};

/// The column of text or bytes.
pub(super) fn fields(of: DataType) -> Fields {
    Fields::from(vec![Field::new("value", of, true)])
}

/// Texts; what is not UTF-8 is rejected.
pub(super) fn strings(values: &[Value<'_>], rejected: &mut Vec<Rejected>) -> Option<Group> {
    let bytes = values.iter().map(|value| value.bytes.len()).sum();
    let mut column = StringBuilder::with_capacity(values.len(), bytes);
    let mut rows = Vec::with_capacity(values.len());
    for value in values {
        match std::str::from_utf8(value.bytes) {
            Ok(text) => {
                column.append_value(text);
                rows.push(value.index);
            }
            Err(error) => rejected.push(value.rejected(error.to_string())),
        }
    }
    group(Arc::new(column.finish()), rows)
}

/// Bytes, of which none is wrong.
pub(super) fn bytes(values: &[Value<'_>]) -> Option<Group> {
    let bytes = values.iter().map(|value| value.bytes.len()).sum();
    let mut column = BinaryBuilder::with_capacity(values.len(), bytes);
    values.iter().for_each(|value| column.append_value(value.bytes));
    group(Arc::new(column.finish()), values.iter().map(|value| value.index).collect())
}

fn group(column: ArrayRef, rows: Vec<u32>) -> Option<Group> {
    let batch = RecordBatch::try_from_iter([("value", column)]).ok()?;
    (!rows.is_empty()).then_some(Group { batch, rows })
}
