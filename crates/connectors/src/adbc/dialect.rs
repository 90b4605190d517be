//! How databases differ: names of types, catalogs, quotes.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use crate::error::Error;

/// Whose SQL a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    DuckDb,
    Sqlite,
    /// PostgreSQL, and whatever is near the standard.
    Standard,
}

impl Dialect {
    /// By what the driver says about its database.
    pub(super) fn of(vendor: &str) -> Self {
        match vendor.to_lowercase() {
            vendor if vendor.contains("duckdb") => Dialect::DuckDb,
            vendor if vendor.contains("sqlite") => Dialect::Sqlite,
            _ => Dialect::Standard,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Dialect::DuckDb => "DuckDB",
            Dialect::Sqlite => "SQLite",
            Dialect::Standard => "the database",
        }
    }

    /// Whether `a` and `A` are one name, quoted or not.
    pub(super) fn folds_case(self) -> bool {
        self != Dialect::Standard
    }

    /// Whether the type of a column holds its values to it, and is changed when
    /// it grows: SQLite keeps any value in any column.
    pub(super) fn has_strict_types(self) -> bool {
        self != Dialect::Sqlite
    }

    /// Whether a transaction is of further use after a question that was wrong.
    pub(super) fn goes_on_after_errors(self) -> bool {
        self == Dialect::DuckDb
    }

    /// The query for the columns of a table: name and type, in order.
    pub(super) fn columns_query(self, table: &str) -> Result<String, Error> {
        let table = literal(table)?;
        Ok(match self {
            Dialect::Sqlite => format!("SELECT name, type FROM pragma_table_info({table})"),
            _ => format!(
                "SELECT column_name, data_type || COALESCE('(' || numeric_precision || ',' || \
                 numeric_scale || ')', '') FROM information_schema.columns WHERE table_schema = \
                 current_schema() AND table_name = {table} ORDER BY ordinal_position"
            ),
        })
    }

    /// PostgreSQL's driver calls decimals text; the catalog knows better.
    pub(super) fn decimal(sql: &str) -> Option<DataType> {
        let digits = sql.strip_prefix("numeric(")?.strip_suffix(')')?;
        let (precision, scale) = digits.split_once(',')?;
        let precision = precision.parse().ok().filter(|&precision: &u8| precision <= 38)?;
        Some(DataType::Decimal128(precision, scale.parse().ok()?))
    }

    /// SQLite's columns have names of types only.
    pub(super) fn declared(sql: &str) -> DataType {
        match sql.to_uppercase() {
            sql if sql.contains("INT") => DataType::Int64,
            sql if ["REAL", "FLOAT", "DOUBLE"].iter().any(|word| sql.contains(word)) => {
                DataType::Float64
            }
            sql if sql.contains("BLOB") => DataType::Binary,
            sql if ["CHAR", "CLOB", "TEXT"].iter().any(|word| sql.contains(word)) => DataType::Utf8,
            // Any value at all.
            _ => DataType::Null,
        }
    }

    /// The type as which values of this type are kept; [`DataType::Null`] where
    /// nothing is known of it yet; `None` where there is no place for it.
    pub(super) fn kept(self, data_type: &DataType) -> Option<DataType> {
        match data_type {
            DataType::Dictionary(_, values) => self.kept(values),
            DataType::RunEndEncoded(_, values) => self.kept(values.data_type()),
            DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
            DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Some(DataType::Binary)
            }
            DataType::Date64 => self.kept(&DataType::Date32),
            DataType::Time32(_) => self.kept(&DataType::Time64(TimeUnit::Microsecond)),
            DataType::Float16 => self.kept(&DataType::Float32),
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                self.kept(&DataType::Decimal128(*precision, *scale))
            }
            DataType::Decimal256(precision, scale) if *precision <= 38 => {
                self.kept(&DataType::Decimal128(*precision, *scale))
            }
            DataType::Null | DataType::Utf8 | DataType::Binary => Some(data_type.clone()),
            _ => match self {
                Dialect::DuckDb => self.kept_by_duckdb(data_type),
                Dialect::Sqlite => kept_by_sqlite(data_type),
                Dialect::Standard => self.kept_by_standard(data_type),
            },
        }
    }

    fn kept_by_duckdb(self, data_type: &DataType) -> Option<DataType> {
        match data_type {
            // It knows instants to the microsecond only.
            DataType::Timestamp(_, Some(_)) => Some(instant()),
            DataType::Duration(_) | DataType::Interval(_) => {
                Some(DataType::Interval(IntervalUnit::MonthDayNano))
            }
            DataType::Decimal128(_, scale) if *scale < 0 => None,
            DataType::Decimal256(..) | DataType::Union(..) => None,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => self.kept_list(item),
            DataType::Struct(fields) => {
                let mut kept = Vec::with_capacity(fields.len());
                for field in fields {
                    match self.kept(field.data_type())? {
                        DataType::Null => {}
                        inner => kept.push(Field::new(field.name(), inner, true)),
                    }
                }
                Some(if kept.is_empty() { DataType::Null } else { DataType::Struct(kept.into()) })
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let [key, value] = fields.as_ref() else { return None };
                let (key, value) = (self.kept(key.data_type())?, self.kept(value.data_type())?);
                let unknown = key == DataType::Null || value == DataType::Null;
                Some(if unknown { DataType::Null } else { map(key, value) })
            }
            plain => Some(plain.clone()),
        }
    }

    fn kept_by_standard(self, data_type: &DataType) -> Option<DataType> {
        match data_type {
            DataType::Int8 | DataType::UInt8 => Some(DataType::Int16),
            DataType::UInt16 => Some(DataType::Int32),
            DataType::UInt32 => Some(DataType::Int64),
            DataType::Timestamp(_, None) => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            DataType::Timestamp(_, Some(_)) => Some(instant()),
            DataType::Time64(_) => Some(DataType::Time64(TimeUnit::Microsecond)),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
                if !item.data_type().is_nested() =>
            {
                self.kept_list(item)
            }
            DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Decimal128(..) => Some(data_type.clone()),
            _ => kept_as_json(data_type),
        }
    }

    fn kept_list(self, item: &Field) -> Option<DataType> {
        Some(match self.kept(item.data_type())? {
            DataType::Null => DataType::Null,
            item => DataType::List(Arc::new(Field::new_list_field(item, true))),
        })
    }

    /// The name of a type that is kept.
    pub(super) fn sql(self, kept: &DataType) -> Result<String, Error> {
        let duck = self == Dialect::DuckDb;
        Ok(match kept {
            DataType::Boolean => "BOOLEAN".into(),
            DataType::Int8 => "TINYINT".into(),
            DataType::Int16 => "SMALLINT".into(),
            DataType::Int64 if self == Dialect::Sqlite => "INTEGER".into(),
            DataType::Int32 => "INTEGER".into(),
            DataType::Int64 => "BIGINT".into(),
            DataType::UInt8 => "UTINYINT".into(),
            DataType::UInt16 => "USMALLINT".into(),
            DataType::UInt32 => "UINTEGER".into(),
            DataType::UInt64 => "UBIGINT".into(),
            DataType::Float32 => "REAL".into(),
            DataType::Float64 if self == Dialect::Sqlite => "REAL".into(),
            DataType::Float64 => "DOUBLE PRECISION".into(),
            DataType::Utf8 => "TEXT".into(),
            DataType::Binary if self == Dialect::Standard => "BYTEA".into(),
            DataType::Binary => "BLOB".into(),
            DataType::Date32 => "DATE".into(),
            DataType::Time64(TimeUnit::Nanosecond) => "TIME_NS".into(),
            DataType::Time64(_) => "TIME".into(),
            DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
            DataType::Timestamp(TimeUnit::Second, None) => "TIMESTAMP_S".into(),
            DataType::Timestamp(TimeUnit::Millisecond, None) => "TIMESTAMP_MS".into(),
            DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS".into(),
            DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".into(),
            DataType::Interval(_) => "INTERVAL".into(),
            DataType::Decimal128(precision, scale) => format!("NUMERIC({precision}, {scale})"),
            DataType::List(item) => format!("{}[]", self.sql(item.data_type())?),
            DataType::Struct(fields) if duck => format!("STRUCT({})", self.sql_fields(fields)?),
            DataType::Map(entries, _) if duck => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => format!(
                    "MAP({}, {})",
                    self.sql(fields[0].data_type())?,
                    self.sql(fields[1].data_type())?
                ),
                other => return Err(Error::Invalid(format!("{other} is no type of a map"))),
            },
            other => return Err(Error::Invalid(format!("{} has no {other}", self.name()))),
        })
    }

    fn sql_fields(self, fields: &Fields) -> Result<String, Error> {
        let sql = |field: &Arc<Field>| {
            Ok(format!("{} {}", identifier(field.name())?, self.sql(field.data_type())?))
        };
        Ok(fields.iter().map(sql).collect::<Result<Vec<_>, Error>>()?.join(", "))
    }
}

/// All numbers are of two kinds there, and what is neither number nor bytes is
/// text.
fn kept_by_sqlite(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Boolean => Some(DataType::Int64),
        other if other.is_integer() => Some(DataType::Int64),
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Some(DataType::Utf8),
        _ => kept_as_json(data_type),
    }
}

/// What is nested is JSON where a database has no such types.
fn kept_as_json(data_type: &DataType) -> Option<DataType> {
    let is_nested = matches!(
        data_type,
        DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Struct(_)
            | DataType::Map(..)
    );
    is_nested.then_some(DataType::Utf8)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A map as Arrow has it.
pub(super) fn map(key: DataType, value: DataType) -> DataType {
    let fields =
        Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

/// A name, quoted: nothing in it is read as SQL.
pub(super) fn identifier(name: &str) -> Result<String, Error> {
    Ok(format!("\"{}\"", without_nul(name)?.replace('"', "\"\"")))
}

/// A text, quoted.
pub(super) fn literal(text: &str) -> Result<String, Error> {
    Ok(format!("'{}'", without_nul(text)?.replace('\'', "''")))
}

/// Where a NUL is, a database in C sees the end of the statement.
fn without_nul(text: &str) -> Result<&str, Error> {
    if text.contains('\0') {
        return Err(Error::Invalid(format!("{text:?} has a NUL in it")));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
