//! How large batches are, without encoding them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowDictionaryKeyType, BinaryViewType, ByteArrayType, ByteViewType, Int16Type, Int32Type,
    Int64Type, RunEndIndexType, StringViewType,
};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, GenericListViewArray, OffsetSizeTrait, RecordBatch,
    downcast_dictionary_array,
};
use arrow_buffer::ArrowNativeType as _;
use arrow_data::ByteView;
use arrow_schema::{DataType, UnionMode};

/// How many bytes batches have on the wire, about: the buffers of their rows
/// only, whatever memory they share, without headers, padding and compression.
/// Dictionaries count as a whole, once in each batch.
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_exchange::service::estimate_data_size;
///
/// let column = Arc::new(Int64Array::from_iter_values(0..1_000)) as _;
/// let batch = RecordBatch::try_from_iter([("n", column)])?;
/// assert_eq!(estimate_data_size([&batch, &batch.slice(0, 10)]), 8_080);
/// # Ok::<(), arrow_schema::ArrowError>(())
/// ```
pub fn estimate_data_size<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> u64 {
    let columns = batches.into_iter().flat_map(RecordBatch::columns);
    columns.map(|column| bytes_of(column.as_ref()) as u64).fold(0, u64::saturating_add)
}

fn bytes_of(array: &dyn Array) -> usize {
    let nulls = if array.nulls().is_some() { array.len().div_ceil(8) } else { 0 };
    nulls + values_of(array)
}

fn values_of(array: &dyn Array) -> usize {
    let rows = array.len();
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => text::<arrow_array::types::Utf8Type>(array),
        DataType::LargeUtf8 => text::<arrow_array::types::LargeUtf8Type>(array),
        DataType::Binary => text::<arrow_array::types::BinaryType>(array),
        DataType::LargeBinary => text::<arrow_array::types::LargeBinaryType>(array),
        DataType::Utf8View => views::<StringViewType>(array),
        DataType::BinaryView => views::<BinaryViewType>(array),
        DataType::FixedSizeBinary(width) => rows * usize::try_from(*width).unwrap_or(0),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            elements(list.offsets().as_ref(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            elements(list.offsets().as_ref(), list.values())
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            elements(map.offsets().as_ref(), &entries)
        }
        DataType::ListView(_) => list_view(array.as_list_view::<i32>()),
        DataType::LargeListView(_) => list_view(array.as_list_view::<i64>()),
        // Its values are cut as it is.
        DataType::FixedSizeList(..) => bytes_of(array.as_fixed_size_list().values().as_ref()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| bytes_of(column.as_ref())).sum()
        }
        DataType::Union(fields, mode) => {
            let union = array.as_union();
            let children = fields.iter().map(|(id, _)| bytes_of(union.child(id).as_ref()));
            let offsets = if *mode == UnionMode::Dense { 5 } else { 1 };
            rows * offsets + children.sum::<usize>()
        }
        DataType::Dictionary(..) => dictionary(array),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => runs::<Int16Type>(array),
            DataType::Int64 => runs::<Int64Type>(array),
            _ => runs::<Int32Type>(array),
        },
        fixed => rows * fixed.primitive_width().unwrap_or(0),
    }
}

fn text<T: ByteArrayType>(array: &dyn Array) -> usize {
    let array = array.as_bytes::<T>();
    size_of_val(array.offsets().as_ref()) + span(array.offsets().as_ref()).1
}

/// Texts of other rows, which a slice shows as its own, do not count.
fn views<T: ByteViewType>(array: &dyn Array) -> usize {
    let views = array.as_byte_view::<T>().views();
    let long = views
        .iter()
        .map(|view| ByteView::from(*view).length as usize)
        .filter(|length| *length > 12);
    size_of_val(views.as_ref()) + long.sum::<usize>()
}

/// From where to where offsets point: the first, and how far.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let first = offsets.first().map_or(0, |offset| offset.as_usize());
    let last = offsets.last().map_or(0, |offset| offset.as_usize());
    (first, last.saturating_sub(first))
}

fn elements<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef) -> usize {
    let (first, length) = span(offsets);
    size_of_val(offsets) + bytes_of(values.slice(first, length).as_ref())
}

/// Its lists may share elements, or leave some out: as many as they have, of the
/// size that one has on average.
fn list_view<O: OffsetSizeTrait>(array: &GenericListViewArray<O>) -> usize {
    let used = array.sizes().iter().map(|size| size.as_usize()).sum();
    let values = share(bytes_of(array.values().as_ref()), used, array.values().len());
    array.len() * 2 * size_of::<O>() + values
}

/// As much of `bytes` as `some` are of `all`.
fn share(bytes: usize, some: usize, all: usize) -> usize {
    let share = bytes as u128 * some as u128 / all.max(1) as u128;
    usize::try_from(share).unwrap_or(usize::MAX)
}

fn dictionary(array: &dyn Array) -> usize {
    fn of<K: ArrowDictionaryKeyType>(array: &DictionaryArray<K>) -> usize {
        bytes_of(array.keys()) + bytes_of(array.values().as_ref())
    }
    downcast_dictionary_array! {
        array => of(array),
        _ => 0,
    }
}

fn runs<R: RunEndIndexType>(array: &dyn Array) -> usize {
    let array = array.as_run::<R>();
    let ends = array.run_ends();
    let whole = size_of_val(ends.values()) + bytes_of(array.values().as_ref());
    let rows = ends.values().last().map_or(0, |end| end.as_usize());
    share(whole, array.len().min(rows), rows)
}
