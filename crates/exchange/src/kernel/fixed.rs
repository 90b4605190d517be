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
    /// Rows of the last chunk of each partition.
    hints: Vec<usize>,
    nulls: Bitmaps,
    room: Room,
}

impl<const N: usize> Fixed<N> {
    pub(super) fn new(data_type: DataType, room: Room) -> Self {
        Fixed {
            data_type,
            parts: (0..room.partitions).map(|_| Vec::new()).collect(),
            hints: vec![0; room.partitions],
            nulls: Bitmaps::new(room.partitions, room.rows),
            room,
        }
    }

    /// Puts each value where the next one of its partition goes, in one pass.
    ///
    /// A `push` for each value costs 2 to 3 times as much: it loads a pointer, a
    /// length and a capacity and stores a length.
    #[allow(unsafe_code, reason = "the innermost loop of the kernel, see above")]
    fn scatter(&mut self, values: &[[u8; N]], block: &Block<'_>) {
        assert_eq!(values.len(), block.ids.len());
        let mut ends = Vec::with_capacity(self.parts.len());
        for (partition, part) in self.parts.iter_mut().enumerate() {
            let spare = part.spare_capacity_mut();
            assert!(spare.len() >= block.plan.rows_in(partition));
            ends.push(spare.as_mut_ptr());
        }
        for (value, id) in values.iter().zip(block.ids) {
            let end = &mut ends[*id as usize];
            // SAFETY: each partition is met as often as its ids were counted,
            // and the assertion above found room for as many values. So this
            // write, and the pointer after it, stay within the spare capacity,
            // which is not looked at otherwise while the pointers are used.
            unsafe {
                (**end).write(*value);
                *end = end.add(1);
            }
        }
        for partition in block.plan.touched() {
            let part = &mut self.parts[partition];
            let len = part.len() + block.plan.rows_in(partition);
            // SAFETY: the values up to there were written by the loop, since the
            // plan counted these ids; they are within the capacity, see above.
            unsafe { part.set_len(len) }
        }
    }

    fn gather(&mut self, values: &[[u8; N]], block: &Block<'_>) {
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
    fn needs_order(&self, array: &dyn Array) -> bool {
        array.null_count() > 0
    }

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
        if block.direct {
            self.scatter(values(&data), block);
        } else {
            self.gather(values(&data), block);
        }
        Ok(grown + self.nulls.append_nulls(array.nulls(), block))
    }

    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let values = std::mem::take(&mut self.parts[partition]);
        self.hints[partition] = values.len();
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
