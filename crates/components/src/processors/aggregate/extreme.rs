//! The least and the greatest values.

use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{
    Array as _, ArrayRef, ArrowNativeTypeOp as _, PrimitiveArray, downcast_primitive,
};
use arrow_array::{new_empty_array, new_null_array};
use arrow_row::{OwnedRow, RowConverter, SortField};
use arrow_schema::{ArrowError, DataType};
use arrow_select::interleave::interleave;

use super::accumulator::{Accumulator, each};
use crate::processors::expression::canonical;

/// The least value, or the greatest.
pub(super) fn new(input: &DataType, least: bool) -> Box<dyn Accumulator> {
    macro_rules! primitive {
        ($t:ty, $input:expr, $least:expr) => {
            Box::new(Primitive::<$t> { best: Vec::new(), data_type: $input.clone(), least: $least })
        };
    }
    downcast_primitive! {
        input => (primitive, input, least),
        _ => Box::new(Other { best: Vec::new(), data_type: input.clone(), least, bytes: 0 }),
    }
}

/// Values of a fixed size.
struct Primitive<T: ArrowPrimitiveType> {
    best: Vec<Option<T::Native>>,
    data_type: DataType,
    least: bool,
}

impl<T: ArrowPrimitiveType> Accumulator for Primitive<T> {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.best.resize(groups, None);
        let Some(column) = column else { return Ok(()) };
        let column = canonical(Arc::clone(column));
        let (best, least) = (&mut self.best, self.least);
        each::<T>(ids, &column, |group, value| {
            let best = &mut best[group];
            let is_better = match (*best, least) {
                (None, _) => true,
                (Some(best), true) => value.is_lt(best),
                (Some(best), false) => value.is_gt(best),
            };
            if is_better {
                *best = Some(value);
            }
        });
        Ok(())
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        let array: PrimitiveArray<T> = self.best.iter().copied().collect();
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn size(&self) -> usize {
        self.best.capacity() * size_of::<Option<T::Native>>()
    }
}

/// Values of any other type, as bytes that are in the same order.
struct Other {
    best: Vec<Option<OwnedRow>>,
    data_type: DataType,
    least: bool,
    bytes: usize,
}

impl Other {
    fn converter(&self) -> Result<RowConverter, ArrowError> {
        RowConverter::new(vec![SortField::new(self.data_type.clone())])
    }
}

impl Accumulator for Other {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.best.resize(groups, None);
        let Some(column) = column else { return Ok(()) };
        let nulls = column.logical_nulls();
        let rows = self.converter()?.convert_columns(&[Arc::clone(column)])?;
        for (row, id) in ids.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let value = rows.row(row);
            let best = &mut self.best[*id as usize];
            let is_better = match (best.as_ref(), self.least) {
                (None, _) => true,
                (Some(best), true) => value < best.row(),
                (Some(best), false) => value > best.row(),
            };
            if is_better {
                let before = best.as_ref().map_or(0, |best| best.row().data().len());
                self.bytes = self.bytes + value.data().len() - before;
                *best = Some(value.owned());
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        let finish = || {
            let rows = self.best.iter().flatten().map(OwnedRow::row);
            // Rows may be of another converter of the same fields only as bytes.
            let converter = self.converter()?;
            let parser = converter.parser();
            let bytes: Vec<Vec<u8>> = rows.map(|row| row.data().to_vec()).collect();
            let values = match bytes.is_empty() {
                true => new_empty_array(&self.data_type),
                false => {
                    let rows = bytes.iter().map(|bytes| parser.parse(bytes));
                    converter.convert_rows(rows)?.remove(0)
                }
            };
            let none = new_null_array(&self.data_type, 1);
            let mut next = 0;
            let places = self.best.iter().map(|best| match best {
                Some(_) => {
                    next += 1;
                    (0, next - 1)
                }
                None => (1, 0),
            });
            interleave(&[&values, &none], &places.collect::<Vec<_>>())
        };
        finish().map_err(|error: ArrowError| error.to_string())
    }

    fn size(&self) -> usize {
        self.best.capacity() * size_of::<Option<OwnedRow>>() + self.bytes
    }
}
