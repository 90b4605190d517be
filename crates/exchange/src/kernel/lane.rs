//! One column in all partitions.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::boolean::Booleans;
use super::bytes::Bytes;
use super::fixed::Fixed;
use super::other::Other;
use super::plan::Plan;
use super::spare::Budget;
use super::views::Views;
use crate::error::Error;

/// A block of rows, and where they go.
pub(super) struct Block<'a> {
    /// The partition of each row.
    pub(super) ids: &'a [u32],
    /// Its rows are sorted, but for `measure`.
    pub(super) plan: &'a Plan,
    /// Rows of each partition before this block.
    pub(super) before: &'a [usize],
}

/// What one chunk may grow to.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) partitions: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Of the first one: half of what each could have if all had the same.
    pub(super) first_rows: usize,
    pub(super) first_bytes: usize,
    /// Of all memory.
    pub(super) budget: Arc<Budget>,
}

/// The open chunks of one column, one for each partition.
///
/// 1. `append` MUST put the rows of a block behind those before, in order.
/// 2. `append` and `take` MUST tell all memory that they take and give back.
/// 3. `take` MUST leave the partition empty.
pub(super) trait Lane: Send {
    /// Adds the bytes of values that have no fixed width to those of each
    /// partition; gives what cannot be told by partition.
    fn measure(&self, _array: &dyn Array, _block: &Block<'_>, _bytes: &mut [usize]) -> usize {
        0
    }

    /// Copies the rows of a block; gives the bytes of memory that this took.
    /// `sizes` are those of chunks so far, for lanes that know them afterwards.
    fn append(
        &mut self,
        array: &dyn Array,
        block: &Block<'_>,
        sizes: &mut [usize],
    ) -> Result<usize, Error>;

    /// The chunk of one partition, in pieces that are one for each `append`
    /// with a row for it, or as a whole; and the bytes that this gives back.
    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error>;

    /// About how many rows the chunk of a partition has memory for, those that
    /// are there included.
    fn room(&self, _partition: usize) -> usize {
        usize::MAX
    }

    /// Gives spare memory to the allocator.
    fn shed(&mut self) {}
}

/// Bits of each row that do not depend on its value: values, offsets, validity.
pub(super) fn row_bits(data_type: &DataType) -> usize {
    1 + match data_type {
        DataType::Boolean => 1,
        DataType::Utf8 | DataType::Binary => 32,
        DataType::LargeUtf8 | DataType::LargeBinary => 64,
        DataType::Utf8View | DataType::BinaryView => 128,
        other => width(other).unwrap_or(0) * 8,
    }
}

/// Bytes of each value, where lanes of such a width exist.
fn width(data_type: &DataType) -> Option<usize> {
    let width = match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok()?,
        other => other.primitive_width()?,
    };
    [1, 2, 4, 8, 16, 32].contains(&width).then_some(width)
}

/// The lane of a column of this type.
pub(super) fn lane(data_type: &DataType, room: &Room) -> Box<dyn Lane> {
    let of = data_type.clone();
    match (data_type, width(data_type)) {
        (DataType::Boolean, _) => Box::new(Booleans::new(room)),
        (DataType::Utf8 | DataType::Binary, _) => Box::new(Bytes::<i32>::new(of, room)),
        (DataType::LargeUtf8 | DataType::LargeBinary, _) => Box::new(Bytes::<i64>::new(of, room)),
        (DataType::Utf8View | DataType::BinaryView, _) => Box::new(Views::new(of, room)),
        (_, Some(1)) => Box::new(Fixed::<1>::new(of, room)),
        (_, Some(2)) => Box::new(Fixed::<2>::new(of, room)),
        (_, Some(4)) => Box::new(Fixed::<4>::new(of, room)),
        (_, Some(8)) => Box::new(Fixed::<8>::new(of, room)),
        (_, Some(16)) => Box::new(Fixed::<16>::new(of, room)),
        (_, Some(32)) => Box::new(Fixed::<32>::new(of, room)),
        _ => Box::new(Other::new(of, room)),
    }
}
