//! Rows in the types and the order of a table's columns.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::{
    Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_json::{EncoderOptions, writer::make_encoder};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};

use super::dialect::Dialect;
use super::evolve::{Column, find};
use crate::error::Error;

/// Values that do not fit are errors, not nulls.
const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow_cast::display::FormatOptions::new() };

/// The schema of rows for a table with these columns.
pub(super) fn schema(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(&column.name, column.kept.clone(), true));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// The batch with every column of the table, null where it has none.
pub(super) fn conform(
    dialect: Dialect,
    table: &str,
    batch: &RecordBatch,
    columns: &[Column],
) -> Result<RecordBatch, Error> {
    let rows = batch.num_rows();
    let own = batch.schema_ref();
    let of = |column: &Column| {
        let names = own.fields().iter().map(|field| field.name().as_str());
        let Some(place) = find(dialect, names, &column.name) else {
            return Ok(new_null_array(&column.kept, rows));
        };
        array(batch.column(place), &column.kept).map_err(|error| {
            Error::malformed(format!("{table}.{}", column.name), dialect.name(), error)
        })
    };
    let arrays = columns.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
        .map_err(|error| Error::malformed(table, dialect.name(), error))
}

fn array(array: &ArrayRef, kept: &DataType) -> Result<ArrayRef, ArrowError> {
    let data_type = array.data_type();
    match (data_type, kept) {
        _ if data_type == kept => Ok(Arc::clone(array)),
        (DataType::Null, _) => Ok(new_null_array(kept, array.len())),
        (DataType::Dictionary(_, values), _) => {
            self::array(&cast_with_options(array, values, &STRICT)?, kept)
        }
        (DataType::RunEndEncoded(_, values), _) => {
            self::array(&cast_with_options(array, values.data_type(), &STRICT)?, kept)
        }
        (nested, DataType::Utf8) if nested.is_nested() => json(array),
        (_, DataType::Struct(fields)) => structure(array, fields),
        (_, DataType::List(item)) => list(array, item),
        (_, DataType::Map(entries, _)) => mapping(array, entries),
        _ => exact(array, kept),
    }
}

fn structure(array: &ArrayRef, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    let own = array.as_struct_opt().ok_or_else(|| mismatch(array, "a struct"))?;
    let column = |field: &Arc<Field>| match own.column_by_name(field.name()) {
        Some(column) => self::array(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), own.len())),
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, own.nulls().cloned())?))
}

fn list(array: &ArrayRef, item: &Arc<Field>) -> Result<ArrayRef, ArrowError> {
    let own = match array.data_type() {
        DataType::List(_) => Arc::clone(array),
        DataType::LargeList(own)
        | DataType::FixedSizeList(own, _)
        | DataType::ListView(own)
        | DataType::LargeListView(own) => {
            cast_with_options(array, &DataType::List(Arc::clone(own)), &STRICT)?
        }
        _ => return Err(mismatch(array, "a list")),
    };
    let (_, offsets, values, nulls) = own.as_list::<i32>().clone().into_parts();
    let values = self::array(&values, item.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
}

fn mapping(array: &ArrayRef, entries: &Arc<Field>) -> Result<ArrayRef, ArrowError> {
    let own = array.as_map_opt().ok_or_else(|| mismatch(array, "a map"))?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(mismatch(array, "a map"));
    };
    // By place: their names differ.
    let columns = [own.keys(), own.values()].into_iter().zip(fields);
    let columns = columns.map(|(column, field)| self::array(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let inner = StructArray::try_new(fields.clone(), columns, None)?;
    let (offsets, nulls) = (own.offsets().clone(), own.nulls().cloned());
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, nulls, false)?))
}

/// Each value as JSON, bytes in it as hexadecimal digits.
fn json(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("", array.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, array, &options)?;
    let (mut texts, mut text) = (StringBuilder::new(), Vec::new());
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(str::from_utf8(&text).map_err(|error| {
            ArrowError::JsonError(format!("a value of {} as JSON: {error}", array.data_type()))
        })?);
    }
    Ok(Arc::new(texts.finish()))
}

/// A cast that is an error where it would lose something of a point in time.
fn exact(array: &ArrayRef, kept: &DataType) -> Result<ArrayRef, ArrowError> {
    let cast = cast_with_options(array, kept, &STRICT)?;
    let coarser = array.data_type().is_temporal() && kept.is_temporal();
    if coarser && !matches!(kept, DataType::Interval(_)) {
        let back = cast_with_options(&cast, array.data_type(), &STRICT)?;
        if &back != array {
            let data_type = array.data_type();
            return Err(ArrowError::CastError(format!("{data_type} loses its end as {kept}")));
        }
    }
    Ok(cast)
}

fn mismatch(array: &ArrayRef, wanted: &str) -> ArrowError {
    ArrowError::CastError(format!("{} is not {wanted}", array.data_type()))
}

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
