//! The types of the rows of a test: as the component declares them, or by their values.

use arrow_schema::{DataType, Field, Schema};
use serde_json::Value;
use sheaf_components::column_type;
use sheaf_pipeline::spec::{Column, Component, Row};

/// The schema of the rows that a component is taken to send.
pub(super) fn of(definition: &Component, rows: &[Row]) -> Result<Schema, String> {
    let id = &definition.id;
    let declared = definition.config.get("columns");
    // Those of `generate` say how values are made, and have no type.
    let declared = declared.and_then(|one| serde_json::from_value::<Vec<Column>>(one.clone()).ok());
    let names = rows.first().into_iter().flat_map(|row| row.keys());
    match declared.filter(|columns| !columns.is_empty()) {
        None => {
            let fields = names.map(|name| Ok(Field::new(name, inferred(id, name, rows)?, true)));
            fields.collect::<Result<Vec<Field>, String>>().map(Schema::new)
        }
        Some(columns) => {
            let mut names = names;
            if let Some(name) = names.find(|name| !columns.iter().any(|one| one.name == **name)) {
                return Err(format!("{id} has no column {name}: its `columns` do not name it"));
            }
            let field =
                |one: &Column| Field::new(&one.name, column_type(one.column_type), one.nullable);
            Ok(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
        }
    }
}

fn inferred(id: &str, name: &str, rows: &[Row]) -> Result<DataType, String> {
    let values = rows.iter().enumerate().filter_map(|(row, one)| Some((row, one.get(name)?)));
    let mut found = None;
    for (row, value) in values {
        let here = match value {
            Value::Null => continue,
            Value::Bool(_) => DataType::Boolean,
            Value::Number(number) if number.is_i64() => DataType::Int64,
            Value::Number(number) if number.is_u64() => DataType::UInt64,
            Value::Number(_) => DataType::Float64,
            _ => DataType::Utf8,
        };
        found = match found {
            Some(before) if before == here => Some(before),
            None => Some(here),
            Some(before) if before.is_numeric() && here.is_numeric() => {
                let is_float = [&before, &here].contains(&&DataType::Float64);
                Some(if is_float { DataType::Float64 } else { DataType::UInt64 })
            }
            Some(before) => {
                let row = row + 1;
                return Err(format!(
                    "{id}, row {row}, column {name}: {value} is of type {here}, those before it of \
                     {before}"
                ));
            }
        };
    }
    // A column without any value.
    Ok(found.unwrap_or(DataType::Utf8))
}
