//! The expressions of pipelines, over whole batches.
//!
//! An expression is bound once to a schema: names become places, types are found and
//! checked, constants become those of the columns that they are compared with. What is left
//! for each batch is Arrow's kernels.
//!
//! # What it means
//! - Null is unknown, as in SQL: what is computed of it is null; `and` and `or` answer where
//!   one side is enough; `a in (…)` without a match is null where the list has a null.
//! - Whole numbers are computed with 64 bits and a sign, and an overflow or a division by
//!   zero is an error, which names the row; `/` leaves out the rest. As soon as one side
//!   is a floating-point number, both are, of 64 bits. Decimals stay exact, with constants too.
//! - Numbers are compared by their value, whatever their types; -0 is 0, and NaN is equal to
//!   itself and greater than all others, as in PostgreSQL.
//! - A constant text is read as the date, time or timestamp that it is compared with.
//! - In a pattern, a backslash takes the meaning from a `%`, `_` or backslash after it.
//! - The right side of `and` and `or` is only computed for rows for which the left one does
//!   not settle it: `n != 0 and total / n > 2` never divides by zero.

mod bind;
mod list;
mod literal;
mod node;
mod types;

use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, Schema};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Expression;

use super::failure;
use node::{Node, Value};

/// An expression that knows the columns of its rows.
pub(super) struct Bound {
    /// Whose expression it is, for messages.
    what: String,
    text: String,
    node: Node,
    data_type: DataType,
    columns: Vec<usize>,
}

/// The rows for which a condition is true.
pub(super) enum Mask {
    All,
    None,
    /// Those that are true; null is not.
    Some(BooleanArray),
}

impl Bound {
    /// Binds it; `what` says in messages whose expression it is.
    pub(super) fn new(
        what: &str,
        expression: &Expression,
        schema: &Schema,
    ) -> Result<Self, ComponentError> {
        let text = expression.text().to_owned();
        let bound = bind::bind(expression.root(), schema);
        let (node, data_type) =
            bound.map_err(|error| failure::configuration(format!("{what}: `{text}`: {error}")))?;
        let columns = expression.columns();
        let columns = columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        Ok(Bound { what: what.to_owned(), text, node, data_type, columns })
    }

    /// The same of an expression that must be true or false.
    pub(super) fn condition(
        what: &str,
        expression: &Expression,
        schema: &Schema,
    ) -> Result<Self, ComponentError> {
        let bound = Self::new(what, expression, schema)?;
        match bound.data_type {
            DataType::Boolean | DataType::Null => Ok(bound),
            _ => Err(failure::configuration(format!(
                "{what}: `{}` is a value of type {}, and not true or false; compare it with \
                 something",
                bound.text, bound.data_type
            ))),
        }
    }

    /// The type of its values.
    pub(super) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The value of each row.
    pub(super) fn values(&self, batch: &RecordBatch) -> Result<ArrayRef, ComponentError> {
        let value = self.evaluate(batch)?;
        value.into_rows(batch.num_rows()).map_err(failure::arrow(&self.what))
    }

    /// The rows for which it is true.
    pub(super) fn mask(&self, batch: &RecordBatch) -> Result<Mask, ComponentError> {
        let is_one = |array: &ArrayRef| {
            array
                .as_any()
                .downcast_ref::<BooleanArray>()
                .is_some_and(|array| array.true_count() > 0)
        };
        match self.evaluate(batch)? {
            Value::One(array) if is_one(&array) => Ok(Mask::All),
            Value::One(_) => Ok(Mask::None),
            Value::Rows(array) => match array.as_any().downcast_ref::<BooleanArray>() {
                Some(mask) => Ok(Mask::Some(mask.clone())),
                // A column of nothing but null.
                None => Ok(Mask::None),
            },
        }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<Value, ComponentError> {
        self.node.evaluate(batch).map_err(|error| self.failed(batch, error))
    }

    /// Finds the row that it is about: kernels do not say.
    fn failed(&self, batch: &RecordBatch, error: ArrowError) -> ComponentError {
        let (mut from, mut to) = (0, batch.num_rows());
        while to - from > 1 {
            let middle = from.midpoint(to);
            match self.node.evaluate(&batch.slice(from, middle - from)) {
                Ok(_) => from = middle,
                Err(_) => to = middle,
            }
        }
        let Self { what, text, .. } = self;
        if from == to {
            return failure::rows(format!("{what}: `{text}`: {error}"));
        }
        let row = batch.slice(from, 1);
        let error = self.node.evaluate(&row).err().unwrap_or(error);
        let values: Vec<String> = self.columns.iter().map(|&column| shown(&row, column)).collect();
        let values = match values.is_empty() {
            true => String::new(),
            false => format!(" ({})", values.join(", ")),
        };
        failure::rows(format!("{what}: `{text}`, row {} of the batch{values}: {error}", from + 1))
    }
}

/// A value of the only row, for people.
fn shown(row: &RecordBatch, column: usize) -> String {
    const MAX_CHARACTERS: usize = 80;

    let options = FormatOptions::default().with_null("null");
    let value = ArrayFormatter::try_new(row.column(column), &options);
    let value = value.map_or_else(|_| "?".to_owned(), |array| array.value(0).to_string());
    let short: String = value.chars().take(MAX_CHARACTERS).collect();
    let dots = if short.len() < value.len() { "…" } else { "" };
    format!("{} = {short}{dots}", row.schema_ref().field(column).name())
}
