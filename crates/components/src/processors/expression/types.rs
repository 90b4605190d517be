//! What the types of Arrow are to the language.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

/// What can be done with values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Null,
    Bool,
    Integer,
    Float,
    Decimal,
    Text,
    Binary,
    /// A date, a time of day, a point in time, a duration.
    Time,
    /// Lists, structs and so on: only `is null` is known of them.
    Other,
}

impl Family {
    pub(super) fn of(data_type: &DataType) -> Self {
        use DataType as D;

        match data_type {
            D::Null => Family::Null,
            D::Boolean => Family::Bool,
            D::Float32 | D::Float64 => Family::Float,
            D::Decimal128(..) | D::Decimal256(..) => Family::Decimal,
            D::Utf8 | D::LargeUtf8 | D::Utf8View => Family::Text,
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => Family::Binary,
            D::Date32 | D::Date64 | D::Time32(_) | D::Time64(_) => Family::Time,
            D::Timestamp(..) | D::Duration(_) => Family::Time,
            integer if integer.is_integer() => Family::Integer,
            _ => Family::Other,
        }
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Family::Integer | Family::Float | Family::Decimal)
    }
}

/// The type to compute with: values of dictionaries and run-ends are unpacked, and floats
/// of 16 bits and small decimals widened.
pub(super) fn unpacked(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => unpacked(values),
        DataType::RunEndEncoded(_, values) => unpacked(values.data_type()),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        other => other.clone(),
    }
}

/// A type that holds the values of both, to compare them; none where they cannot be.
pub(super) fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType::{
        Date32, Decimal128, Decimal256, Float64, Int64, LargeBinary, LargeUtf8, UInt64,
    };

    let families = (Family::of(left), Family::of(right));
    if left == right {
        return (families.0 != Family::Other).then(|| left.clone());
    }
    Some(match families {
        (Family::Integer, Family::Integer) => match (left, right) {
            (UInt64, other) | (other, UInt64) if other.is_signed_integer() => Decimal128(20, 0),
            (UInt64, _) | (_, UInt64) => UInt64,
            _ => Int64,
        },
        (Family::Float, other) | (other, Family::Float) if other.is_number() => Float64,
        (Family::Decimal, other) | (other, Family::Decimal) if other.is_number() => {
            Decimal256(76, scale(left).max(scale(right)))
        }
        (Family::Text, Family::Text) => LargeUtf8,
        (Family::Binary, Family::Binary) => LargeBinary,
        (Family::Time, Family::Time) => match (left, right) {
            (DataType::Timestamp(a, zone_a), DataType::Timestamp(b, zone_b)) => {
                let zone = zone_a.is_some() || zone_b.is_some();
                DataType::Timestamp(finer(*a, *b), zone.then(|| Arc::from("UTC")))
            }
            (date, point @ DataType::Timestamp(..)) | (point @ DataType::Timestamp(..), date)
                if matches!(date, Date32 | DataType::Date64) =>
            {
                point.clone()
            }
            (Date32, DataType::Date64) | (DataType::Date64, Date32) => DataType::Date64,
            (
                DataType::Time32(_) | DataType::Time64(_),
                DataType::Time32(_) | DataType::Time64(_),
            ) => DataType::Time64(TimeUnit::Nanosecond),
            (DataType::Duration(a), DataType::Duration(b)) => DataType::Duration(finer(*a, *b)),
            _ => return None,
        },
        _ => return None,
    })
}

/// Digits behind the point.
pub(super) fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

fn finer(left: TimeUnit, right: TimeUnit) -> TimeUnit {
    let order = [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond];
    order.into_iter().find(|unit| [left, right].contains(unit)).unwrap_or(TimeUnit::Second)
}

/// Floats with one zero and one NaN: Arrow orders them by their bits.
pub(in super::super) fn canonical(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            // The sum makes 0 of -0.
            Arc::new(
                floats.unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
            )
        }
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            Arc::new(
                floats.unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
            )
        }
        _ => array,
    }
}
