//! What a table needs before rows of a schema fit into it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use super::dialect::{Dialect, identifier, map};
use crate::error::Error;

/// A column, with the type as which the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kept: DataType,
}

/// How a table becomes what rows need.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Statements, in order.
    pub(super) statements: Vec<String>,
    /// Every column of the table after them, in its order.
    pub(super) columns: Vec<Column>,
}

/// The place of a column of this name.
pub(super) fn find<'a>(
    dialect: Dialect,
    mut names: impl Iterator<Item = &'a str>,
    name: &str,
) -> Option<usize> {
    names.position(|other| {
        other == name || (dialect.folds_case() && other.eq_ignore_ascii_case(name))
    })
}

fn find_in(dialect: Dialect, columns: &[Column], name: &str) -> Option<usize> {
    find(dialect, columns.iter().map(|column| column.name.as_str()), name)
}

/// The columns that rows of all of these schemas need.
pub(super) fn wanted<'a>(
    dialect: Dialect,
    schemas: impl Iterator<Item = &'a Schema>,
) -> Result<Vec<Column>, Error> {
    let mut all: Vec<Column> = Vec::new();
    for schema in schemas {
        let mut seen: Vec<&str> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let (name, data_type) = (field.name(), field.data_type());
            if find(dialect, seen.iter().copied(), name).is_some() {
                let database = dialect.name();
                return Err(Error::Invalid(format!("column {name} is there twice for {database}")));
            }
            seen.push(name);
            let kept =
                dialect.kept(data_type).ok_or_else(|| unsupported(dialect, name, data_type))?;
            match find_in(dialect, &all, name) {
                None => all.push(Column { name: name.clone(), kept }),
                Some(place) => all[place].kept = join(dialect, &all[place], &kept)?,
            }
        }
    }
    Ok(all)
}

/// What makes `existing`, or no table, into one that takes `wanted`.
pub(super) fn plan(
    dialect: Dialect,
    table: &str,
    existing: Option<Vec<Column>>,
    wanted: &[Column],
) -> Result<Plan, Error> {
    let known = wanted.iter().filter(|column| column.kept != DataType::Null);
    let quoted = identifier(table)?;
    let Some(mut columns) = existing else {
        let columns: Vec<Column> = known.cloned().collect();
        if columns.is_empty() {
            return Err(Error::Invalid(format!("table {table}: no column has a type yet")));
        }
        let list = columns.iter().map(|column| definition(dialect, column));
        let list = list.collect::<Result<Vec<_>, _>>()?.join(", ");
        return Ok(Plan { statements: vec![format!("CREATE TABLE {quoted} ({list})")], columns });
    };
    let mut statements = Vec::new();
    for column in known {
        let Some(place) = find_in(dialect, &columns, &column.name) else {
            let definition = definition(dialect, column)?;
            statements.push(format!("ALTER TABLE {quoted} ADD COLUMN {definition}"));
            columns.push(column.clone());
            continue;
        };
        let joined = join(dialect, &columns[place], &column.kept)?;
        if joined != columns[place].kept && dialect.has_strict_types() {
            let (name, sql) = (identifier(&columns[place].name)?, dialect.sql(&joined)?);
            statements.push(format!("ALTER TABLE {quoted} ALTER COLUMN {name} TYPE {sql}"));
        }
        columns[place].kept = joined;
    }
    Ok(Plan { statements, columns })
}

fn definition(dialect: Dialect, column: &Column) -> Result<String, Error> {
    Ok(format!("{} {}", identifier(&column.name)?, dialect.sql(&column.kept)?))
}

fn unsupported(dialect: Dialect, column: &str, data_type: &DataType) -> Error {
    Error::Unsupported {
        column: column.to_owned(),
        data_type: data_type.to_string(),
        format: dialect.name(),
        advice: "convert it, to text for example, or use DuckDB, which keeps nested types",
    }
}

fn join(dialect: Dialect, column: &Column, kept: &DataType) -> Result<DataType, Error> {
    widen(&column.kept, kept).ok_or_else(|| Error::Unsupported {
        column: column.name.clone(),
        data_type: format!("{kept} beside {}", column.kept),
        format: dialect.name(),
        advice: "a column only widens; write to another table, or convert it",
    })
}

/// The type that holds the values of both; the rule is in the docs of
/// [`AdbcTables`](super::AdbcTables).
pub(super) fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (DataType::Timestamp(left, zone), DataType::Timestamp(right, other)) if zone == other => {
            Some(DataType::Timestamp(finer(*left, *right), zone.clone()))
        }
        (DataType::Time64(left), DataType::Time64(right)) => {
            Some(DataType::Time64(finer(*left, *right)))
        }
        (DataType::List(left), DataType::List(right)) => {
            let item = widen(left.data_type(), right.data_type())?;
            Some(DataType::List(Arc::new(Field::new_list_field(item, true))))
        }
        (DataType::Struct(left), DataType::Struct(right)) => {
            widen_fields(left, right).map(DataType::Struct)
        }
        (DataType::Map(left, _), DataType::Map(right, _)) => {
            let (DataType::Struct(left), DataType::Struct(right)) =
                (left.data_type(), right.data_type())
            else {
                return None;
            };
            let of = |place: usize| widen(left[place].data_type(), right[place].data_type());
            Some(map(of(0)?, of(1)?))
        }
        _ => widen_number(a, b),
    }
}

/// By name; fields that only one has are null in the other.
fn widen_fields(left: &Fields, right: &Fields) -> Option<Fields> {
    let mut fields: Vec<Field> = Vec::with_capacity(left.len());
    for field in left {
        let other = right.find(field.name()).map(|(_, other)| other.data_type());
        let kept =
            other.map_or(Some(field.data_type().clone()), |o| widen(field.data_type(), o))?;
        fields.push(Field::new(field.name(), kept, true));
    }
    let more = right.iter().filter(|field| left.find(field.name()).is_none());
    fields.extend(more.map(|field| Field::new(field.name(), field.data_type().clone(), true)));
    Some(fields.into())
}

fn finer(left: TimeUnit, right: TimeUnit) -> TimeUnit {
    left.max(right)
}

fn widen_number(a: &DataType, b: &DataType) -> Option<DataType> {
    if a.is_integer() && b.is_integer() {
        return widen_integer(a, b);
    }
    if let (Some(left), Some(right)) = (digits(a), digits(b)) {
        let (whole, scale) = (left.0.max(right.0), left.1.max(right.1));
        let precision = whole.checked_add(scale).filter(|&precision| precision <= 38)?;
        return Some(DataType::Decimal128(precision, scale.cast_signed()));
    }
    match (a, b) {
        (DataType::Float32, small) | (small, DataType::Float32)
            if small.is_integer() && small.primitive_width()? <= 2 =>
        {
            Some(DataType::Float32)
        }
        _ if is_plain(a) && is_plain(b) => Some(DataType::Float64),
        _ => None,
    }
}

fn is_plain(number: &DataType) -> bool {
    number.is_integer() || matches!(number, DataType::Float32 | DataType::Float64)
}

fn widen_integer(a: &DataType, b: &DataType) -> Option<DataType> {
    let (left, right) = (a.primitive_width()?, b.primitive_width()?);
    let signed = [a, b].iter().any(|number| number.is_signed_integer());
    // Among signed ones, an unsigned one needs the next size.
    let needed = |number: &DataType, width| {
        if signed && number.is_unsigned_integer() { width * 2 } else { width }
    };
    match (signed, needed(a, left).max(needed(b, right))) {
        (true, 1) => Some(DataType::Int8),
        (true, 2) => Some(DataType::Int16),
        (true, 4) => Some(DataType::Int32),
        (true, 8) => Some(DataType::Int64),
        (false, 1) => Some(DataType::UInt8),
        (false, 2) => Some(DataType::UInt16),
        (false, 4) => Some(DataType::UInt32),
        (false, 8) => Some(DataType::UInt64),
        _ => None,
    }
}

/// Digits before and after the point, of decimals and integers.
fn digits(number: &DataType) -> Option<(u8, u8)> {
    match number {
        DataType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            Some((precision.checked_sub(scale)?, scale))
        }
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "evolve_tests.rs"]
mod tests;
