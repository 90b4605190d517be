//! What is computed of groups.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, Int64Array};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::{Aggregate, AggregateFunction};

use super::extreme;
use super::numbers::{self, Mean};
use crate::processors::failure;

/// One number for each group.
pub(super) trait Accumulator: Send + Sync {
    /// Adds rows: `ids` are their groups, of which there are `groups` by now.
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError>;

    /// What it comes to, for each group.
    fn finish(&self) -> Result<ArrayRef, String>;

    /// Bytes in memory.
    fn size(&self) -> usize;
}

/// The type of the result; `input` is that of the column.
pub(super) fn output(
    aggregate: &Aggregate,
    input: Option<&DataType>,
) -> Result<DataType, ComponentError> {
    use AggregateFunction as F;

    let Some(input) = input else { return Ok(DataType::Int64) };
    let found = match aggregate.function {
        F::Count => Some(DataType::Int64),
        F::Sum => numbers::sum_type(input),
        F::Mean => numbers::sum_type(input).map(|_| DataType::Float64),
        F::Min | F::Max => {
            let is_ordered = RowConverter::supports_fields(&[SortField::new(input.clone())]);
            (is_ordered && *input != DataType::Null).then(|| input.clone())
        }
    };
    found.ok_or_else(|| {
        let Aggregate { name, function, column } = aggregate;
        let column = column.as_deref().unwrap_or_default();
        failure::configuration(format!(
            "aggregate `{name}`: column `{column}` is of type {input}, which {} cannot be computed \
             of; compute a number in a `project` before",
            format!("{function:?}").to_lowercase()
        ))
    })
}

/// Computes `function` of values of a type that [`output`] has accepted.
pub(super) fn new(function: AggregateFunction, input: Option<&DataType>) -> Box<dyn Accumulator> {
    match (function, input) {
        (AggregateFunction::Sum, Some(input)) => numbers::sum(input),
        (AggregateFunction::Mean, Some(input)) => Box::new(Mean::new(input)),
        (AggregateFunction::Min, Some(input)) => extreme::new(input, true),
        (AggregateFunction::Max, Some(input)) => extreme::new(input, false),
        _ => Box::new(Count::default()),
    }
}

/// Rows, or values that are not null.
#[derive(Default)]
struct Count(Vec<i64>);

impl Accumulator for Count {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.0.resize(groups, 0);
        match column.and_then(|column| column.logical_nulls()) {
            None => ids.iter().for_each(|id| self.0[*id as usize] += 1),
            Some(nulls) => {
                for (id, valid) in ids.iter().zip(&nulls) {
                    self.0[*id as usize] += i64::from(valid);
                }
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        Ok(Arc::new(Int64Array::from(self.0.clone())))
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<i64>()
    }
}

/// Calls `each` with group and value of each row that has one.
pub(super) fn each<T: arrow_array::types::ArrowPrimitiveType>(
    ids: &[u32],
    column: &ArrayRef,
    mut each: impl FnMut(usize, T::Native),
) {
    use arrow_array::cast::AsArray as _;

    let array = column.as_primitive::<T>();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (id, value) in ids.iter().zip(array.values()) {
                each(*id as usize, *value);
            }
        }
        Some(nulls) => {
            for ((id, value), valid) in ids.iter().zip(array.values()).zip(nulls) {
                if valid {
                    each(*id as usize, *value);
                }
            }
        }
    }
}
