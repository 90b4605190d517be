//! A condition on the rows of a record batch.

use std::sync::Arc;

use arrow_arith::boolean::{and_kleene, is_null, not, or_kleene};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, Scalar, StringArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ord::cmp;
use arrow_schema::{ArrowError, DataType};

use super::{Comparison, Condition, Literal};
use crate::error::Error;

const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow_cast::display::FormatOptions::new() };

pub(super) fn evaluate(condition: &Condition, rows: &RecordBatch) -> Result<BooleanArray, Error> {
    match condition {
        Condition::Not(inner) => done(not(&evaluate(inner, rows)?)),
        Condition::All(conditions) => fold(conditions, rows, true, and_kleene),
        Condition::Any(conditions) => fold(conditions, rows, false, or_kleene),
        Condition::IsNull { column } => done(is_null(column_of(rows, column)?)),
        Condition::Compare { column, comparison, value } => {
            compare(column, column_of(rows, column)?, *comparison, value)
        }
        Condition::In { column, values } => {
            let known = column_of(rows, column)?;
            let mut any = BooleanArray::from(vec![false; rows.num_rows()]);
            for value in values {
                let one = compare(column, known, Comparison::Equal, value)?;
                any = done(or_kleene(&any, &one))?;
            }
            Ok(any)
        }
        Condition::Like { column, pattern } => {
            let known = column_of(rows, column)?;
            if !matches!(
                known.data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ) {
                let kind = known.data_type();
                let why = format!("column {column:?} is {kind}, and LIKE is for text");
                return Err(Error::Invalid(why));
            }
            let pattern = literal(column, &Literal::Text(pattern.clone()), known.data_type())?;
            done(arrow_string::like::like(known, &Scalar::new(pattern)))
        }
    }
}

type Join = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>;

fn fold(
    conditions: &[Condition],
    rows: &RecordBatch,
    of_none: bool,
    join: Join,
) -> Result<BooleanArray, Error> {
    let none = BooleanArray::from(vec![of_none; rows.num_rows()]);
    conditions.iter().try_fold(none, |all, one| done(join(&all, &evaluate(one, rows)?)))
}

fn done(result: Result<BooleanArray, ArrowError>) -> Result<BooleanArray, Error> {
    result.map_err(|source| Error::Arrow { operation: "evaluate a condition", source })
}

fn column_of<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    rows.column_by_name(name).ok_or_else(|| unknown_column(name, rows.schema_ref()))
}

/// That there is no such column, and which ones there are.
pub(crate) fn unknown_column(name: &str, schema: &arrow_schema::Schema) -> Error {
    let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Error::Invalid(format!("there is no column {name:?}; there are {}", known.join(", ")))
}

fn compare(
    name: &str,
    column: &ArrayRef,
    comparison: Comparison,
    value: &Literal,
) -> Result<BooleanArray, Error> {
    let mut column = Arc::clone(column);
    if let DataType::Dictionary(_, values) = column.data_type() {
        column = cast(name, &column, &values.clone())?;
    }
    // A whole number that is compared with a fraction is not cut to fit.
    if column.data_type().is_integer() && matches!(value, Literal::Number(_)) {
        column = cast(name, &column, &DataType::Float64)?;
    }
    let value = Scalar::new(literal(name, value, column.data_type())?);
    done(match comparison {
        Comparison::Equal => cmp::eq(&column, &value),
        Comparison::NotEqual => cmp::neq(&column, &value),
        Comparison::Less => cmp::lt(&column, &value),
        Comparison::LessOrEqual => cmp::lt_eq(&column, &value),
        Comparison::Greater => cmp::gt(&column, &value),
        Comparison::GreaterOrEqual => cmp::gt_eq(&column, &value),
    })
}

/// A constant as an array of one value of this type.
fn literal(name: &str, value: &Literal, to: &DataType) -> Result<ArrayRef, Error> {
    let (array, shown): (ArrayRef, String) = match value {
        Literal::Integer(value) => (Arc::new(Int64Array::from(vec![*value])), value.to_string()),
        Literal::Number(value) => (Arc::new(Float64Array::from(vec![*value])), value.to_string()),
        Literal::Text(value) => {
            (Arc::new(StringArray::from(vec![value.as_str()])), format!("'{value}'"))
        }
        Literal::Boolean(value) => (Arc::new(BooleanArray::from(vec![*value])), value.to_string()),
    };
    // Casts between the two exist, and are not what anybody means.
    let is_truth = matches!(value, Literal::Boolean(_));
    let is_text = matches!(value, Literal::Text(_));
    let of_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let fits = is_truth == (*to == DataType::Boolean) && (is_text || !of_text);
    let cast = if fits { cast_with_options(&array, to, &STRICT).ok() } else { None };
    cast.filter(|cast| !cast.is_null(0)).ok_or_else(|| {
        Error::Invalid(format!("column {name:?} is {to}, and {shown} cannot be read as that"))
    })
}

fn cast(name: &str, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, Error> {
    cast_with_options(column, to, &STRICT).map_err(|error| {
        let from = column.data_type();
        Error::Invalid(format!("column {name:?} is {from} and cannot be compared so: {error}"))
    })
}
