//! Brings columns to a schema: by name, with nulls for what they lack.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray, UInt32Array, UnionArray, new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, FieldRef, Fields, SchemaRef, UnionFields};
use arrow_select::take::take;

use crate::decode::Error;

/// A batch of a stream as it is under a later schema of the same stream.
///
/// Columns are found by name; one that the batch lacks is null, one that the
/// schema lacks is left out, and values are cast. Nothing is copied where the
/// type stayed. Integers that became floats are rounded above 2^53.
///
/// # Errors
/// [`Error::Column`]: a value does not fit its new type. That does not happen
/// between two schemas of one stream.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow_array::{Float64Array, Int64Array, record_batch};
/// use arrow_schema::{DataType, Field, Schema};
///
/// let old = record_batch!(("a", Int64, [1, 2]))?;
/// let a = Field::new("a", DataType::Float64, true);
/// let schema = Arc::new(Schema::new(vec![a, Field::new("b", DataType::Utf8, true)]));
/// let new = sheaf_kafka::conform(&old, &schema)?;
/// assert_eq!(new.column(0).as_ref(), &Float64Array::from(vec![1.0, 2.0]));
/// assert_eq!(new.column(1).null_count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = conform_columns(batch, schema.fields())?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| Error::column("", e))
}

/// The columns of a batch in the order and of the types of `fields`.
pub(crate) fn conform_columns(
    batch: &RecordBatch,
    fields: &Fields,
) -> Result<Vec<ArrayRef>, Error> {
    named(batch.schema_ref().fields(), batch.columns(), fields, batch.num_rows(), "")
}

fn named(
    from: &Fields,
    arrays: &[ArrayRef],
    to: &Fields,
    rows: usize,
    path: &str,
) -> Result<Vec<ArrayRef>, Error> {
    to.iter()
        .enumerate()
        .map(|(at, field)| {
            let same_place = from.get(at).is_some_and(|known| known.name() == field.name());
            let found = if same_place { Some(at) } else { from.find(field.name()).map(|f| f.0) };
            match found {
                Some(at) => {
                    array(&arrays[at], field.data_type(), &format!("{path}{}", field.name()))
                }
                None => Ok(new_null_array(field.data_type(), rows)),
            }
        })
        .collect()
}

fn array(from: &ArrayRef, to: &DataType, path: &str) -> Result<ArrayRef, Error> {
    if from.data_type() == to {
        return Ok(Arc::clone(from));
    }
    let refused = |e| Error::column(path, e);
    match (from.data_type(), to) {
        (DataType::Null, _) => Ok(new_null_array(to, from.len())),
        (DataType::Struct(fields), DataType::Struct(wanted)) => {
            let from = from.as_struct();
            let path = format!("{path}.");
            let columns = named(fields, from.columns(), wanted, from.len(), &path)?;
            let nulls = from.nulls().cloned();
            StructArray::try_new_with_length(wanted.clone(), columns, nulls, from.len())
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(refused)
        }
        (DataType::Union(branches, _), DataType::Struct(wanted)) => {
            union(from.as_union(), branches, wanted, path)
        }
        (DataType::List(_), DataType::List(item)) => list::<i32>(from, item, path),
        (DataType::LargeList(_), DataType::LargeList(item)) => list::<i64>(from, item, path),
        (DataType::FixedSizeList(_, n), DataType::FixedSizeList(item, m)) if n == m => {
            let from = from.as_fixed_size_list();
            let values = array(from.values(), item.data_type(), path)?;
            FixedSizeListArray::try_new(Arc::clone(item), *n, values, from.nulls().cloned())
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(refused)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let from = from.as_map();
            let pairs: ArrayRef = Arc::new(from.entries().clone());
            let pairs = array(&pairs, entries.data_type(), path)?.as_struct().clone();
            let (offsets, nulls) = (from.offsets().clone(), from.nulls().cloned());
            MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(refused)
        }
        _ => {
            check_unfolding(from).map_err(|problem| Error::column(path, problem))?;
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(from, to, &strict).map_err(refused)
        }
    }
}

/// Refuses to write values out that are stored once for many rows: a few
/// bytes of a message could become any number.
fn check_unfolding(from: &ArrayRef) -> Result<(), String> {
    let bytes = match from.data_type() {
        DataType::Dictionary(..) => {
            let values = from.as_any_dictionary().values();
            let longest = (0..values.len()).map(|at| values.slice(at, 1).get_buffer_memory_size());
            from.len().saturating_mul(longest.max().unwrap_or(0))
        }
        DataType::Utf8View => from.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => from.as_binary_view().lengths().map(|length| length as usize).sum(),
        DataType::RunEndEncoded(..) | DataType::ListView(_) | DataType::LargeListView(_) => {
            return Err(format!("{} has no other form here", from.data_type()));
        }
        _ => return Ok(()),
    };
    match bytes > i32::MAX as usize {
        true => Err(format!("its values would be {bytes} bytes written out")),
        false => Ok(()),
    }
}

/// A struct with a field for each branch.
fn union(
    from: &UnionArray,
    branches: &UnionFields,
    wanted: &Fields,
    path: &str,
) -> Result<ArrayRef, Error> {
    let columns = wanted.iter().map(|field| {
        let branch = branches.iter().find(|(_, branch)| branch.name() == field.name());
        let Some((id, _)) = branch else {
            return Ok(new_null_array(field.data_type(), from.len()));
        };
        let values: UInt32Array = (0..from.len())
            .map(|row| {
                let chosen = from.type_id(row) == id;
                chosen.then(|| u32::try_from(from.value_offset(row)).ok()).flatten()
            })
            .collect();
        let path = format!("{path}.{}", field.name());
        let column = take(from.child(id), &values, None).map_err(|e| Error::column(&path, e))?;
        array(&column, field.data_type(), &path)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let none = from.logical_nulls();
    StructArray::try_new_with_length(wanted.clone(), columns, none, from.len())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|e| Error::column(path, e))
}

fn list<O: OffsetSizeTrait>(
    from: &ArrayRef,
    item: &FieldRef,
    path: &str,
) -> Result<ArrayRef, Error> {
    let from = from.as_list::<O>();
    let values = array(from.values(), item.data_type(), &format!("{path}[]"))?;
    let (offsets, nulls) = (from.offsets().clone(), from.nulls().cloned());
    GenericListArray::try_new(Arc::clone(item), offsets, values, nulls)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|e| Error::column(path, e))
}
