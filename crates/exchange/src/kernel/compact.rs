//! Arrays without what `take` leaves in them of the array that they come from.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{
    Array, ArrayRef, GenericListViewArray, OffsetSizeTrait, UInt64Array, make_array,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, FieldRef};
use arrow_select::take::take;

/// Whether taken arrays of this type share values: views do, and lists of them.
/// Dictionaries do as well, and keep it: they are meant to be shared.
pub(super) fn shares(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => shares(field.data_type()),
        DataType::RunEndEncoded(_, values) => shares(values.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| shares(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| shares(field.data_type())),
        _ => false,
    }
}

/// The same values in memory of their own.
pub(super) fn compact(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Utf8View => Ok(Arc::new(array.as_string_view().gc())),
        DataType::BinaryView => Ok(Arc::new(array.as_binary_view().gc())),
        DataType::ListView(field) => list_view::<i32>(array, field),
        DataType::LargeListView(field) => list_view::<i64>(array, field),
        data_type if shares(data_type) => {
            let data = array.to_data();
            let children = data.child_data().iter();
            let children = children
                .map(|child| Ok(compact(&make_array(child.clone()))?.to_data()))
                .collect::<Result<Vec<_>, ArrowError>>()?;
            Ok(make_array(data.into_builder().child_data(children).build()?))
        }
        _ => Ok(Arc::clone(array)),
    }
}

/// With the elements of its rows, one row after the other.
fn list_view<O: OffsetSizeTrait>(
    array: &ArrayRef,
    field: &FieldRef,
) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list_view::<O>();
    let (mut elements, mut offsets, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..list.len() {
        offsets.push(O::usize_as(elements.len()));
        let size = if list.is_null(row) { O::zero() } else { list.value_size(row) };
        sizes.push(size);
        let from = list.value_offset(row).as_usize();
        elements.extend((from..from + size.as_usize()).map(|element| element as u64));
    }
    let values = compact(&take(list.values(), &UInt64Array::from(elements), None)?)?;
    Ok(Arc::new(GenericListViewArray::<O>::try_new(
        Arc::clone(field),
        ScalarBuffer::from(offsets),
        ScalarBuffer::from(sizes),
        values,
        list.nulls().cloned(),
    )?))
}
