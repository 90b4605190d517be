//! Constants as values of the type that they meet.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, NullArray, StringArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType};
use sheaf_pipeline::spec::Literal;

use super::types::Family;

const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow_cast::display::FormatOptions::new() };

/// Changes the type of values; what does not fit is an error.
pub(in crate::processors) fn cast(
    array: &ArrayRef,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    cast_with_options(array, data_type, &EXACT)
}

/// A constant by itself.
pub(super) fn natural(literal: &Literal) -> ArrayRef {
    match literal {
        Literal::Null => Arc::new(NullArray::new(1)),
        Literal::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Literal::Integer(value) => Arc::new(Int64Array::from(vec![*value])),
        Literal::Number(value) => Arc::new(Float64Array::from(vec![*value])),
        Literal::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
    }
}

/// What comes of a constant that meets values of a type.
pub(super) enum Met {
    /// It is a value of that type.
    Same(ArrayRef),
    /// Both are to become values of the constant's type.
    Wider(ArrayRef),
    /// No value of that type is like it, whatever happens.
    Never(&'static str),
}

/// A constant that is compared with values of `data_type`.
pub(super) fn meet(literal: &Literal, data_type: &DataType) -> Result<Met, String> {
    let own = natural(literal);
    let as_type = |array: &ArrayRef| cast(array, data_type).ok();
    match (literal, Family::of(data_type)) {
        (Literal::Integer(_), Family::Integer) => Ok(match as_type(&own) {
            Some(value) => Met::Same(value),
            None if *data_type == DataType::UInt64 => {
                // A negative one: no unsigned number is like it, but all are greater.
                let wide = cast(&own, &DataType::Decimal128(20, 0));
                Met::Wider(wide.map_err(|error| error.to_string())?)
            }
            None => Met::Wider(own),
        }),
        (Literal::Number(_), Family::Integer) => Ok(Met::Wider(own)),
        (Literal::Integer(_) | Literal::Number(_), Family::Float) => {
            let wide = cast(&own, &DataType::Float64).map_err(|error| error.to_string())?;
            Ok(match as_type(&wide) {
                Some(narrow) if *data_type == DataType::Float64 || is_exact(&narrow, &wide) => {
                    Met::Same(narrow)
                }
                _ => Met::Wider(wide),
            })
        }
        (Literal::Integer(_) | Literal::Number(_), Family::Decimal) => {
            Ok(decimal(literal, data_type))
        }
        (Literal::Text(text), Family::Text | Family::Time) => match as_type(&own) {
            Some(value) => Ok(Met::Same(value)),
            None => Err(format!("'{text}' is no value of type {data_type}; {}", form(data_type))),
        },
        (Literal::Bool(_), Family::Bool) => Ok(Met::Same(own)),
        (literal, _) => {
            Err(format!("values of type {data_type} cannot be compared with {}", named(literal)))
        }
    }
}

/// What a text must look like.
fn form(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Date32 | DataType::Date64 => "write a date as '2026-01-31'",
        DataType::Timestamp(..) => "write a time as '2026-01-31T10:30:00Z'",
        DataType::Time32(_) | DataType::Time64(_) => "write a time of day as '10:30:00'",
        _ => "compare it with something else",
    }
}

/// A constant for people.
pub(super) fn named(literal: &Literal) -> String {
    match literal {
        Literal::Null => "null".to_owned(),
        Literal::Bool(value) => format!("{value}"),
        Literal::Integer(value) => format!("the number {value}"),
        Literal::Number(value) => format!("the number {value}"),
        Literal::Text(value) => format!("the text '{value}'"),
    }
}

fn is_exact(narrow: &ArrayRef, wide: &ArrayRef) -> bool {
    let back = cast(narrow, &DataType::Float64);
    back.is_ok_and(|back| back.as_ref() == wide.as_ref()) && narrow.as_any().is::<Float32Array>()
}

/// A constant that meets decimals: exact if it can be.
fn decimal(literal: &Literal, data_type: &DataType) -> Met {
    let Some((exact, scale)) = exact(literal) else {
        return match literal {
            Literal::Number(_) => Met::Wider(natural(literal)),
            _ => Met::Never("too large"),
        };
    };
    if scale <= super::types::scale(data_type)
        && let Ok(value) = cast(&exact, data_type)
    {
        return Met::Same(value);
    }
    let scale = scale.max(super::types::scale(data_type));
    match cast(&exact, &DataType::Decimal256(76, scale)) {
        Ok(value) => Met::Wider(value),
        Err(_) => Met::Wider(natural(literal)),
    }
}

/// A number with exactly the digits that it is written with, and how many of them are
/// behind the point.
pub(super) fn exact(literal: &Literal) -> Option<(ArrayRef, i8)> {
    const MAX_DIGITS: usize = 38;

    let text = match literal {
        Literal::Integer(value) => value.to_string(),
        Literal::Number(value) => value.to_string(),
        _ => return None,
    };
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if !plain || digits > MAX_DIGITS {
        return None;
    }
    let scale = text.split_once('.').map_or(0, |(_, behind)| behind.len());
    let scale = i8::try_from(scale).ok()?;
    let precision = u8::try_from(digits).ok()?.max(1);
    let own: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let value = cast(&own, &DataType::Decimal128(precision, scale)).ok()?;
    Some((value, scale))
}
