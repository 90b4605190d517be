//! Columns whose values have one width of `N` bytes.

use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::bits::Bitmaps;
use super::grow;
use super::lane::{Block, Lane, Room};
use crate::error::Error;

pub(super) struct Fixed<const N: usize> {
    data_type: DataType,
    parts: Vec<Vec<[u8; N]>>,
    /// Rows that the chunk of each partition may have, by the last one.
    hints: Vec<usize>,
    nulls: Bitmaps,
    room: Room,
}

impl<const N: usize> Fixed<N> {
    pub(super) fn new(data_type: DataType, room: Room) -> Self {
        Fixed {
            data_type,
            parts: (0..room.partitions).map(|_| Vec::new()).collect(),
            hints: vec![room.first_rows; room.partitions],
            nulls: Bitmaps::new(room.partitions, room.rows),
            room,
        }
    }

    /// Copies the values of each partition, one run after the other: they are
    /// written one behind the other, and read from a block that is in the cache.
    fn gather(&mut self, values: &[[u8; N]], block: &Block<'_>) {
        grow::fetch(values.as_flattened(), self.parts.len());
        for partition in block.plan.touched() {
            let rows = block.plan.rows(partition).iter();
            self.parts[partition].extend(rows.map(|row| values[*row as usize]));
        }
    }
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
            grown += grow::reserve(&mut self.parts[partition], rows, hint, self.room.rows);
        }
        self.gather(values(&data), block);
        Ok(grown + self.nulls.append_nulls(array.nulls(), block))
    }

    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let values = std::mem::take(&mut self.parts[partition]);
        self.hints[partition] = grow::hint(values.len());
        let held = grow::held(&values);
        let (nulls, more) = self.nulls.take_nulls(partition, rows);
        let data = ArrayData::builder(self.data_type.clone())
            .len(rows)
            .add_buffer(Buffer::from_vec(values.into_flattened()))
            .nulls(nulls)
            // Memory for bytes may begin anywhere; allocators give better.
            .align_buffers(true)
            .build()?;
        Ok((vec![make_array(data)], held + more))
    }
}
