//! The values of `in (…)`.

use std::collections::HashSet;

use arrow_arith::boolean::or_kleene;
use arrow_array::{Array as _, ArrayRef, BooleanArray, Datum as _};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_ord::cmp::eq;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType};

use super::node::Value;

/// Up to so many values are compared one by one: that is faster than looking them up.
const FEW: usize = 6;

/// The values of a list, of one type, and whether null is among them.
pub(super) struct List {
    values: Values,
    has_null: bool,
}

enum Values {
    Few(Vec<Value>),
    Many(Box<Table>),
}

struct Table {
    converter: RowConverter,
    rows: HashSet<Box<[u8]>>,
}

impl List {
    /// Each of `values` has one value of `data_type`.
    pub(super) fn new(
        data_type: &DataType,
        values: Vec<ArrayRef>,
        has_null: bool,
    ) -> Result<Self, ArrowError> {
        if values.len() <= FEW {
            let values = values.into_iter().map(Value::One).collect();
            return Ok(List { values: Values::Few(values), has_null });
        }
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let mut rows = HashSet::with_capacity(values.len());
        for value in values {
            let row = converter.convert_columns(&[value])?;
            rows.insert(row.row(0).data().into());
        }
        Ok(List { values: Values::Many(Box::new(Table { converter, rows })), has_null })
    }

    /// Which of these are in it.
    pub(super) fn contains(&self, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let found = match &self.values {
            Values::Few(values) => few(values, array)?,
            Values::Many(table) => table.contains(array)?,
        };
        if !self.has_null {
            return Ok(found);
        }
        or_kleene(&found, &BooleanArray::new_null(array.len()))
    }
}

fn few(values: &[Value], array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let rows = Value::Rows(ArrayRef::clone(array));
    let mut found: Option<BooleanArray> = None;
    for value in values {
        debug_assert!(value.get().1, "a list has constants");
        let equal = eq(&rows, value)?;
        found = Some(match found {
            // Both are null in the same rows.
            Some(found) => or_kleene(&found, &equal)?,
            None => equal,
        });
    }
    let none = || BooleanArray::new(BooleanBuffer::new_unset(array.len()), array.logical_nulls());
    Ok(found.unwrap_or_else(none))
}

impl Table {
    fn contains(&self, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let rows = self.converter.convert_columns(&[ArrayRef::clone(array)])?;
        let found = BooleanBuffer::collect_bool(array.len(), |row| {
            self.rows.contains(rows.row(row).data())
        });
        let nulls: Option<NullBuffer> = array.logical_nulls();
        Ok(BooleanArray::new(found, nulls))
    }
}
