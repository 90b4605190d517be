//! Columns of text and binary views: long values are copied, so that a chunk
//! holds its own and nothing of the batches it came from.

use arrow_array::{Array, ArrayRef, make_array};
use arrow_data::{ArrayData, ByteView, MAX_INLINE_VIEW_LEN};
use arrow_schema::DataType;

use super::bits::Bitmaps;
use super::grow;
use super::lane::{Block, Lane, Room};
use super::spare::{Spare, bytes_of};
use crate::error::Error;

pub(super) struct Views {
    data_type: DataType,
    parts: Vec<Part>,
    nulls: Bitmaps,
    spare_views: Spare<u128>,
    spare_values: Spare<u8>,
    room: Room,
}

#[derive(Default)]
struct Part {
    views: Vec<u128>,
    values: Vec<u8>,
    /// Rows and bytes that the chunk may have, by the last one.
    hints: [usize; 2],
}

impl Views {
    pub(super) fn new(data_type: DataType, room: &Room) -> Self {
        let parts = (0..room.partitions)
            .map(|_| Part { hints: [room.first_rows, 0], ..Part::default() })
            .collect();
        let nulls = Bitmaps::new(room.partitions, room.rows);
        Views {
            data_type,
            parts,
            nulls,
            spare_views: Spare::new(&room.budget),
            spare_values: Spare::new(&room.budget),
            room: room.clone(),
        }
    }
}

/// The views of an array.
fn source(data: &ArrayData) -> &[u128] {
    &data.buffers()[0].typed_data::<u128>()[data.offset()..data.offset() + data.len()]
}

/// Length of a value that lies outside of its view, else zero.
#[allow(clippy::cast_possible_truncation, reason = "the length is in the lower half")]
fn outside(view: u128) -> usize {
    let length = view as u32;
    if length > MAX_INLINE_VIEW_LEN { length as usize } else { 0 }
}

impl Lane for Views {
    fn measure(&self, array: &dyn Array, block: &Block<'_>, bytes: &mut [usize]) -> usize {
        let data = array.to_data();
        let nulls = array.nulls();
        for (row, (view, id)) in source(&data).iter().zip(block.ids).enumerate() {
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                bytes[*id as usize] += outside(*view);
            }
        }
        0
    }

    fn append(
        &mut self,
        array: &dyn Array,
        block: &Block<'_>,
        _: &mut [usize],
    ) -> Result<usize, Error> {
        let data = array.to_data();
        let (views, buffers, nulls) = (source(&data), &data.buffers()[1..], array.nulls());
        let mut grown = 0;
        for partition in block.plan.touched() {
            let (part, rows) = (&mut self.parts[partition], block.plan.rows(partition));
            let [hint, bytes_hint] = part.hints;
            grown += self.spare_views.reserve(&mut part.views, rows.len(), hint, self.room.rows);
            // What a null view says may be anything.
            let view_of = |row: &u32| {
                let row = *row as usize;
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) { views[row] } else { 0 }
            };
            let size = rows.iter().map(|row| outside(view_of(row))).sum();
            grown += self.spare_values.reserve(&mut part.values, size, bytes_hint, self.room.bytes);
            for row in rows {
                let view = view_of(row);
                let size = outside(view);
                if size == 0 {
                    part.views.push(view);
                    continue;
                }
                let mut view = ByteView::from(view);
                let from = view.offset as usize;
                let value = &buffers[view.buffer_index as usize][from..from + size];
                view.buffer_index = 0;
                // A chunk has at most 2^30 bytes, or is one value at zero.
                view.offset = u32::try_from(part.values.len()).unwrap_or(u32::MAX);
                part.values.extend_from_slice(value);
                part.views.push(view.as_u128());
            }
        }
        Ok(grown + self.nulls.append_nulls(nulls, block))
    }

    #[allow(
        unsafe_code,
        reason = "checking text again costs a tenth of all, and more where it is not ASCII"
    )]
    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let part = &mut self.parts[partition];
        let (views, values) = (std::mem::take(&mut part.views), std::mem::take(&mut part.values));
        part.hints = [views.len(), values.len()].map(grow::hint);
        let held = bytes_of(&views) + bytes_of(&values);
        assert_eq!(views.len(), rows);
        let (nulls, more) = self.nulls.take_nulls(partition, rows);
        let mut builder = ArrayData::builder(self.data_type.clone())
            .len(rows)
            .add_buffer(self.spare_views.buffer(views))
            .nulls(nulls);
        if !values.is_empty() {
            builder = builder.add_buffer(self.spare_values.buffer(values));
        }
        // SAFETY: a view is one of an array of the same type, whose value is in
        // itself or was appended to the values, where its new offset begins; there
        // is one for each row, as asserted. Length and prefix are those of the
        // value. Text is valid in both places. The validity has a bit for each row.
        let data = unsafe { builder.build_unchecked() };
        Ok((vec![make_array(data)], held + more))
    }

    fn room(&self, partition: usize) -> usize {
        let part = &self.parts[partition];
        grow::room(&part.values, part.views.len()).min(part.views.capacity())
    }

    fn shed(&mut self) {
        self.spare_views.shed();
        self.spare_values.shed();
    }
}
