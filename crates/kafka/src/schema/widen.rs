//! Which type holds the values of two: the rules of evolution.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

/// The columns of `ours`, wide enough for `theirs`; new ones come last.
/// `path` says where in the messages they are, with a dot at its end.
pub(crate) fn fields(ours: &Fields, theirs: &Fields, path: &str) -> Result<Fields, String> {
    let mut wide: Vec<FieldRef> = ours.to_vec();
    for field in theirs {
        match wide.iter_mut().find(|known| known.name() == field.name()) {
            Some(known) if known.data_type() == field.data_type() => {}
            Some(known) => {
                let path = format!("{path}{}", field.name());
                let of = widen(known.data_type(), field.data_type(), &path)?;
                *known = Arc::new(known.as_ref().clone().with_data_type(of));
            }
            None => wide.push(Arc::clone(field)),
        }
    }
    Ok(wide.into())
}

/// The type that holds the values of both without loss, except that 64-bit
/// integers become floats, which are exact up to 2^53.
pub(crate) fn widen(ours: &DataType, theirs: &DataType, path: &str) -> Result<DataType, String> {
    use DataType::{FixedSizeList, LargeList, List, Map, Null, Struct};
    if ours == theirs {
        return Ok(ours.clone());
    }
    match (ours, theirs) {
        (_, Null) => Ok(ours.clone()),
        (Null, _) => Ok(theirs.clone()),
        (Struct(a), Struct(b)) => Ok(Struct(fields(a, b, &format!("{path}."))?)),
        (List(a), List(b)) => Ok(List(item(a, b, path)?)),
        (LargeList(a), LargeList(b)) => Ok(LargeList(item(a, b, path)?)),
        (FixedSizeList(a, n), FixedSizeList(b, m)) if n == m => {
            Ok(FixedSizeList(item(a, b, path)?, *n))
        }
        (Map(a, sorted), Map(b, _)) => Ok(Map(item(a, b, path)?, *sorted)),
        _ => scalar(ours, theirs)
            .ok_or_else(|| format!("column {path} is {theirs} here and {ours} in the stream")),
    }
}

fn item(a: &FieldRef, b: &FieldRef, path: &str) -> Result<FieldRef, String> {
    let of = widen(a.data_type(), b.data_type(), &format!("{path}[]"))?;
    Ok(Arc::new(a.as_ref().clone().with_data_type(of)))
}

fn scalar(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, Decimal128, FixedSizeBinary, Float16, Float32, Float64, LargeBinary, LargeUtf8,
        Timestamp, Utf8,
    };
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return common_integer(a, b);
    }
    let either = |one: &DataType, other: &DataType| {
        (a == one && b == other).then_some(()).or((b == one && a == other).then_some(()))
    };
    match (a, b) {
        (Float16 | Float32 | Float64, Float16 | Float32) => Some(a.clone()),
        (Float16 | Float32, Float64) => Some(Float64),
        (Float16 | Float32 | Float64, _) if integer(b).is_some() => Some(Float64),
        (_, Float16 | Float32 | Float64) if integer(a).is_some() => Some(Float64),
        (FixedSizeBinary(_), FixedSizeBinary(_) | Binary) | (Binary, FixedSizeBinary(_)) => {
            Some(Binary)
        }
        (Timestamp(u, zone), Timestamp(v, other)) if zone == other => {
            // Nanoseconds end in 2262, so the others do not become them.
            let finest = (*u).max(*v);
            (finest != TimeUnit::Nanosecond).then(|| Timestamp(finest, zone.clone()))
        }
        (Decimal128(p, s), Decimal128(q, t)) => {
            let scale = (*s).max(*t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            let precision = u8::try_from(whole + i16::from(scale)).ok()?;
            (precision <= 38).then_some(Decimal128(precision, scale))
        }
        _ if either(&Utf8, &LargeUtf8).is_some() => Some(LargeUtf8),
        _ if either(&Binary, &LargeBinary).is_some() => Some(LargeBinary),
        _ => None,
    }
}

/// Signed or not, and how many bits.
fn integer(of: &DataType) -> Option<(bool, u8)> {
    Some(match of {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    })
}

fn common_integer(a: (bool, u8), b: (bool, u8)) -> Option<DataType> {
    let bits = match (a, b) {
        ((x, n), (y, m)) if x == y => n.max(m),
        ((true, n), (false, m)) | ((false, m), (true, n)) => n.max(m.checked_mul(2)?),
        _ => return None,
    };
    Some(match (a.0 || b.0, bits) {
        (true, 16) => DataType::Int16,
        (true, 32) => DataType::Int32,
        (true, 64) => DataType::Int64,
        (false, 16) => DataType::UInt16,
        (false, 32) => DataType::UInt32,
        (false, 64) => DataType::UInt64,
        _ => return None,
    })
}

/// The same columns, nullable at every depth, so that a tombstone and a
/// message from before a column was known have a place.
pub(crate) fn nullable_fields(fields: &Fields) -> Fields {
    fields.iter().map(|field| nullable_field(field)).collect()
}

fn nullable_field(field: &Field) -> Field {
    // What a decoder notes about its own format would make equal types differ.
    let kept = field.metadata().iter().filter(|(key, _)| key.starts_with("ARROW:"));
    let metadata: std::collections::HashMap<_, _> =
        kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    Field::new(field.name(), nullable(field.data_type()), true).with_metadata(metadata)
}

/// A type whose nested fields are all nullable. A union, which cannot be null
/// and which Parquet and pandas do not know, is a struct with a field for each
/// of its branches, of which one at most has a value.
fn nullable(of: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(nullable_field(field));
    match of {
        DataType::Struct(fields) => DataType::Struct(nullable_fields(fields)),
        DataType::List(field) => DataType::List(inner(field)),
        DataType::LargeList(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(inner(field), *length),
        // Entries and keys of a map are never null.
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return of.clone() };
            let [key, value] = &pair[..] else { return of.clone() };
            let key = nullable_field(key).with_nullable(false);
            let pair = DataType::Struct(Fields::from(vec![key, nullable_field(value)]));
            DataType::Map(Arc::new(Field::new(entries.name(), pair, false)), *sorted)
        }
        DataType::Union(branches, _) => {
            let valued =
                branches.iter().filter(|(_, branch)| *branch.data_type() != DataType::Null);
            DataType::Struct(valued.map(|(_, branch)| nullable_field(branch)).collect())
        }
        other => other.clone(),
    }
}

/// How many columns there are, with the nested ones.
pub(super) fn count(fields: &Fields) -> usize {
    fields.iter().map(|field| 1 + count_in(field.data_type())).sum()
}

fn count_in(of: &DataType) -> usize {
    match of {
        DataType::Struct(fields) => count(fields),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => count_in(item.data_type()),
        _ => 0,
    }
}

/// No name comes twice.
pub(crate) fn distinct(fields: &Fields) -> Result<(), String> {
    let mut seen = HashSet::new();
    match fields.iter().find(|field| !seen.insert(field.name())) {
        Some(twice) => Err(format!("two columns have the name {}", twice.name())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_widen_alike_from_both_sides() {
        use DataType::{
            Binary, Boolean, Decimal128, FixedSizeBinary, Float32, Float64, Int8, Int32, Int64,
            Null, UInt8, UInt32, UInt64, Utf8,
        };
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (a, b, wide) in [
            (Null, Utf8, Some(Utf8)),
            (Int32, Int64, Some(Int64)),
            (UInt8, Int8, Some(DataType::Int16)),
            (UInt32, Int32, Some(Int64)),
            (UInt64, Int64, None),
            (Int64, Float64, Some(Float64)),
            (Float32, Int8, Some(Float64)),
            (Float32, Float64, Some(Float64)),
            (Int64, Utf8, None),
            (Boolean, Int64, None),
            (millis.clone(), micros.clone(), Some(micros.clone())),
            (micros, nanos, None),
            (Decimal128(10, 2), Decimal128(10, 4), Some(Decimal128(12, 4))),
            (Decimal128(38, 0), Decimal128(38, 9), None),
            (FixedSizeBinary(4), FixedSizeBinary(8), Some(Binary)),
            (millis, Int64, None),
        ] {
            assert_eq!(widen(&a, &b, "x").ok(), wide, "{a} {b}");
            assert_eq!(widen(&b, &a, "x").ok(), wide, "{b} {a}");
        }
    }

    #[test]
    fn nested_columns_grow() {
        let list = |fields: Vec<Field>| {
            DataType::List(Arc::new(Field::new("item", DataType::Struct(fields.into()), true)))
        };
        let (x, y) =
            (Field::new("x", DataType::Int64, true), Field::new("y", DataType::Utf8, true));
        let wide = widen(&list(vec![x.clone()]), &list(vec![y.clone()]), "a").unwrap();
        assert_eq!(wide, list(vec![x.clone(), y]));
        let other = Field::new("x", DataType::Utf8, true);
        let error = widen(&list(vec![x]), &list(vec![other]), "a").unwrap_err();
        assert_eq!(error, "column a[].x is Utf8 here and Int64 in the stream");
    }
}
