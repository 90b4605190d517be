//! Hashes of values that are made of others.

use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray as _;
use arrow_buffer::ArrowNativeType as _;
use arrow_schema::{ArrowError, DataType};

use super::{Hasher, join};

/// Writes the hash of each value to `out`; of null values, anything.
pub(super) fn hash(hasher: Hasher, array: &dyn Array, out: &mut [u64]) -> Result<(), ArrowError> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let bounds = list.value_offsets();
            lists(hasher, list.values(), |row| range(bounds[row], bounds[row + 1]), out)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let bounds = list.value_offsets();
            lists(hasher, list.values(), |row| range(bounds[row], bounds[row + 1]), out)
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let place = |row| sized(list.value_offset(row), list.value_size(row));
            lists(hasher, list.values(), place, out)
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let place = |row| sized(list.value_offset(row), list.value_size(row));
            lists(hasher, list.values(), place, out)
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            let size = size.as_usize();
            lists(hasher, list.values(), |row| row * size..(row + 1) * size, out)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let bounds = map.value_offsets();
            lists(hasher, map.entries(), |row| range(bounds[row], bounds[row + 1]), out)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            out.fill(hasher.number(columns.len() as u64));
            for column in columns {
                for (hash, field) in out.iter_mut().zip(hasher.array(column.as_ref())?) {
                    *hash = join(*hash, field);
                }
            }
            Ok(())
        }
        DataType::Union(members, _) => {
            let union = array.as_union();
            let mut hashes = vec![Vec::new(); 128];
            for (id, _) in members.iter() {
                hashes[id.as_usize()] = hasher.array(union.child(id).as_ref())?;
            }
            for (row, hash) in out.iter_mut().enumerate() {
                *hash = hashes[union.type_id(row).as_usize()][union.value_offset(row)];
            }
            Ok(())
        }
        other => Err(ArrowError::NotYetImplemented(format!("a hash of {other}"))),
    }
}

fn range<T: arrow_buffer::ArrowNativeType>(from: T, to: T) -> Range<usize> {
    from.as_usize()..to.as_usize()
}

fn sized<T: arrow_buffer::ArrowNativeType>(from: T, size: T) -> Range<usize> {
    from.as_usize()..from.as_usize() + size.as_usize()
}

/// Hashes lists whose elements lie in `values` at `place` of each row.
fn lists(
    hasher: Hasher,
    values: &dyn Array,
    place: impl Fn(usize) -> Range<usize>,
    out: &mut [u64],
) -> Result<(), ArrowError> {
    let places = (0..out.len()).map(&place).filter(|place| !place.is_empty());
    // Of a slice of a long array, only what its rows use.
    let used = places.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
    let hashes = hasher.array(values.slice(used.start, used.len()).as_ref())?;
    for (row, hash) in out.iter_mut().enumerate() {
        let place = place(row);
        let first = hasher.number(place.len() as u64);
        *hash = if place.is_empty() {
            first
        } else {
            let elements = &hashes[place.start - used.start..place.end - used.start];
            elements.iter().fold(first, |hash, element| join(hash, *element))
        };
    }
    Ok(())
}
