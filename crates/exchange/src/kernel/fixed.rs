//! Columns whose values have one width of `N` bytes.

use std::ops::RangeInclusive;

use arrow_array::{Array, ArrayRef, make_array};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::bits::Bitmaps;
use super::grow;
use super::lane::{Block, Lane, Room};
use super::spare::{Spare, bytes_of};
use crate::error::Error;

pub(super) struct Fixed<const N: usize> {
    data_type: DataType,
    parts: Vec<Vec<[u8; N]>>,
    /// Rows that the chunk of each partition may have, by the last one.
    hints: Vec<usize>,
    nulls: Bitmaps,
    spare: Spare<[u8; N]>,
    room: Room,
}

impl<const N: usize> Fixed<N> {
    pub(super) fn new(data_type: DataType, room: &Room) -> Self {
        Fixed {
            data_type,
            parts: (0..room.partitions).map(|_| Vec::new()).collect(),
            hints: vec![room.first_rows; room.partitions],
            nulls: Bitmaps::new(room.partitions, room.rows),
            spare: Spare::new(&room.budget),
            room: room.clone(),
        }
    }

    /// Copies each value to its partition, in the order of the block: it is read
    /// once from the front to the back.
    #[allow(unsafe_code, reason = "a vector cannot be filled from several places otherwise")]
    fn scatter(&mut self, values: &[[u8; N]], block: &Block<'_>) {
        let parts = self.parts.iter_mut().enumerate();
        let mut places: Vec<_> = parts
            .map(|(id, part)| part.spare_capacity_mut()[..block.plan.rows_in(id)].iter_mut())
            .collect();
        for (value, id) in values.iter().zip(block.ids) {
            if let Some(place) = places[*id as usize].next() {
                place.write(*value);
            }
        }
        assert!(places.iter().all(|places| places.len() == 0));
        for (id, part) in self.parts.iter_mut().enumerate() {
            // SAFETY: that many places lay behind the values, and none was left
            // that was not written, as asserted.
            unsafe { part.set_len(part.len() + block.plan.rows_in(id)) };
        }
    }

    /// Copies the values of each partition, one run after the other: they are
    /// written one behind the other, and read from a block that is in the cache.
    fn gather(&mut self, values: &[[u8; N]], block: &Block<'_>) {
        grow::fetch(values.as_flattened(), self.parts.len());
        assert_eq!(values.len(), block.plan.len());
        let mut later = block.plan.touched().skip(AHEAD);
        for partition in block.plan.touched() {
            if let Some(later) = later.next() {
                let rows = block.plan.rows_in(later);
                let room = self.parts[later].spare_capacity_mut();
                grow::prefetch(&room[..rows]);
            }
            append_rows(&mut self.parts[partition], values, block.plan.rows(partition));
        }
    }
}

/// For so many partitions, reading a block once is faster than writing one
/// partition after the other; of fewer, the next value waits for the last one.
const SCATTERED: RangeInclusive<usize> = 8..=16;

/// Partitions after which the memory of one that is asked for now is written.
const AHEAD: usize = 4;

/// Rows that are copied without a look at where they end.
const UNROLLED: usize = 8;

/// Appends some of the values.
#[allow(unsafe_code, reason = "a check of each row costs as much as its copy")]
fn append_rows<const N: usize>(to: &mut Vec<[u8; N]>, values: &[[u8; N]], rows: &[u32]) {
    to.reserve(rows.len());
    let room = &mut to.spare_capacity_mut()[..rows.len()];
    // SAFETY: all rows of a plan are less than its length, and there are as many
    // values, as the caller asserts.
    let value = |row: u32| unsafe { *values.get_unchecked(row as usize) };
    let (many, few) = room.as_chunks_mut::<UNROLLED>();
    let (many_rows, few_rows) = rows.as_chunks::<UNROLLED>();
    for (places, rows) in many.iter_mut().zip(many_rows) {
        for (place, row) in places.iter_mut().zip(rows) {
            place.write(value(*row));
        }
    }
    for (place, row) in few.iter_mut().zip(few_rows) {
        place.write(value(*row));
    }
    // SAFETY: that much room was made, and each of its places was written: the
    // chunks of places are those of the rows.
    unsafe { to.set_len(to.len() + rows.len()) };
}

/// The values of an array of this width.
fn values<const N: usize>(data: &ArrayData) -> &[[u8; N]] {
    let (values, _) = data.buffers()[0].as_slice().as_chunks::<N>();
    &values[data.offset()..data.offset() + data.len()]
}

impl<const N: usize> Lane for Fixed<N> {
    fn append(
        &mut self,
        array: &dyn Array,
        block: &Block<'_>,
        _: &mut [usize],
    ) -> Result<usize, Error> {
        let data = array.to_data();
        let mut grown = 0;
        for partition in block.plan.touched() {
            let (rows, hint) = (block.plan.rows_in(partition), self.hints[partition]);
            grown += self.spare.reserve(&mut self.parts[partition], rows, hint, self.room.rows);
        }
        if SCATTERED.contains(&self.parts.len()) {
            self.scatter(values(&data), block);
        } else {
            self.gather(values(&data), block);
        }
        Ok(grown + self.nulls.append_nulls(array.nulls(), block))
    }

    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let values = std::mem::take(&mut self.parts[partition]);
        self.hints[partition] = grow::hint(values.len());
        let held = bytes_of(&values);
        let (nulls, more) = self.nulls.take_nulls(partition, rows);
        let data = ArrayData::builder(self.data_type.clone())
            .len(rows)
            .add_buffer(self.spare.buffer(values))
            .nulls(nulls)
            // Memory for bytes may begin anywhere; allocators give better.
            .align_buffers(true)
            .build()?;
        Ok((vec![make_array(data)], held + more))
    }

    fn room(&self, partition: usize) -> usize {
        self.parts[partition].capacity()
    }

    fn shed(&mut self) {
        self.spare.shed();
    }
}
