//! Columns of a specification as a schema of Arrow.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use sheaf_connectors::FileFormat;
use sheaf_pipeline::spec::{self, Column, ColumnType};

/// The schema, unless it is to be inferred.
pub(crate) fn schema(columns: &[Column]) -> Option<SchemaRef> {
    if columns.is_empty() {
        return None;
    }
    let field = |column: &Column| {
        Field::new(&column.name, column_type(column.column_type), column.nullable)
    };
    Some(Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())))
}

/// The type of Arrow that a column of a file of a pipeline has.
pub fn column_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int8 => DataType::Int8,
        ColumnType::Int16 => DataType::Int16,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Uint8 => DataType::UInt8,
        ColumnType::Uint16 => DataType::UInt16,
        ColumnType::Uint32 => DataType::UInt32,
        ColumnType::Uint64 => DataType::UInt64,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::String => DataType::Utf8,
        ColumnType::Binary => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The format by its other name.
pub(crate) fn file_format(format: spec::FileFormat) -> FileFormat {
    match format {
        spec::FileFormat::Parquet => FileFormat::Parquet,
        spec::FileFormat::Csv => FileFormat::Csv,
        spec::FileFormat::Json => FileFormat::Json,
        spec::FileFormat::Ipc => FileFormat::Ipc,
    }
}
