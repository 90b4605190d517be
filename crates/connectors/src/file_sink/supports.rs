//! Which Arrow types a file format can hold.

use arrow_schema::{DataType, Field, IntervalUnit, Schema};

use crate::error::Error;
use crate::format::FileFormat;

/// Refuses a schema with a column that the format has no place for.
pub(crate) fn check(format: FileFormat, schema: &Schema) -> Result<(), Error> {
    if matches!(format, FileFormat::Csv | FileFormat::Parquet) && schema.fields().is_empty() {
        // They count rows by their values.
        let name = format.name();
        return Err(Error::Invalid(format!(
            "{name} cannot hold a batch without columns; write Arrow IPC or JSON"
        )));
    }
    schema.fields().iter().try_for_each(|field| check_field(format, field, field.name()))
}

fn check_field(format: FileFormat, field: &Field, path: &str) -> Result<(), Error> {
    if let Some(advice) = refused(format, field.data_type()) {
        return Err(Error::Unsupported {
            column: path.to_owned(),
            data_type: field.data_type().to_string(),
            format: format.name(),
            advice,
        });
    }
    let inner = |child: &Field| check_field(format, child, &format!("{path}.{}", child.name()));
    match field.data_type() {
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::ListView(child)
        | DataType::LargeListView(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _) => inner(child),
        DataType::RunEndEncoded(_, values) => inner(values),
        DataType::Struct(children) => children.iter().try_for_each(|child| inner(child)),
        DataType::Union(children, _) => children.iter().try_for_each(|(_, child)| inner(child)),
        DataType::Dictionary(_, values) => {
            check_field(format, &Field::new("values", values.as_ref().clone(), true), path)
        }
        _ => Ok(()),
    }
}

/// Whether there is a run-end encoded column in it, or below.
pub(crate) fn has_runs(data_type: &DataType) -> bool {
    has(data_type, &|inner| matches!(inner, DataType::RunEndEncoded(_, _)))
}

/// Whether there is a dictionary in it, or below.
pub(crate) fn has_dictionary(data_type: &DataType) -> bool {
    has(data_type, &|inner| matches!(inner, DataType::Dictionary(_, _)))
}

fn has(data_type: &DataType, wanted: &impl Fn(&DataType) -> bool) -> bool {
    let below = |field: &Field| has(field.data_type(), wanted);
    wanted(data_type)
        || match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _)
            | DataType::RunEndEncoded(_, field) => below(field),
            DataType::Struct(fields) => fields.iter().any(|field| below(field)),
            DataType::Union(fields, _) => fields.iter().any(|(_, field)| below(field)),
            DataType::Dictionary(_, values) => has(values, wanted),
            _ => false,
        }
}

/// What to do instead, where the type itself is refused.
fn refused(format: FileFormat, data_type: &DataType) -> Option<&'static str> {
    const IPC: &str = "write Arrow IPC, which holds every type, or cast the column first";
    const FLAT: &str = "write Parquet, Arrow IPC or JSON, or flatten the column first";
    match (format, data_type) {
        (FileFormat::Ipc, _) => None,
        (_, DataType::Union(_, _)) => Some(IPC),
        (FileFormat::Parquet, DataType::Interval(IntervalUnit::MonthDayNano)) => Some(IPC),
        (FileFormat::Parquet, DataType::Struct(fields)) if fields.is_empty() => Some(IPC),
        (FileFormat::Csv, other) if other.is_nested() => Some(FLAT),
        _ => None,
    }
}
