//! Columns of text and binary with offsets.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, OffsetSizeTrait, make_array};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::bits::Bitmaps;
use super::grow;
use super::lane::{Block, Lane, Room};
use super::spare::{Element, Spare, bytes_of};
use crate::error::Error;

pub(super) struct Bytes<O: Element> {
    data_type: DataType,
    parts: Vec<Part<O>>,
    nulls: Bitmaps,
    spare_ends: Spare<O>,
    spare_values: Spare<u8>,
    room: Room,
}

struct Part<O> {
    /// Where each value ends; the first one begins at zero.
    ends: Vec<O>,
    values: Vec<u8>,
    /// Rows and bytes that the chunk may have, by the last one.
    hints: [usize; 2],
}

impl<O: OffsetSizeTrait + Element> Bytes<O> {
    pub(super) fn new(data_type: DataType, room: &Room) -> Self {
        let part = |_| Part { ends: Vec::new(), values: Vec::new(), hints: [room.first_rows, 0] };
        let parts = (0..room.partitions).map(part).collect();
        let nulls = Bitmaps::new(room.partitions, room.rows);
        Bytes {
            data_type,
            parts,
            nulls,
            spare_ends: Spare::new(&room.budget),
            spare_values: Spare::new(&room.budget),
            room: room.clone(),
        }
    }
}

/// Offsets of the rows of an array, one more than there are rows, and its bytes.
fn source<O: OffsetSizeTrait>(data: &ArrayData) -> (&[O], &[u8]) {
    if data.is_empty() {
        return (&[], &[]);
    }
    let offsets = &data.buffers()[0].typed_data::<O>()[data.offset()..=data.offset() + data.len()];
    (offsets, data.buffers()[1].as_slice())
}

/// Bytes that are copied without asking how many they are.
const SHORT: usize = 32;

/// Appends a value. Of short ones a few bytes more are copied and cut off again:
/// a copy of fixed length is a few instructions, one of any length a call.
fn append_value(values: &mut Vec<u8>, bytes: &[u8], span: Range<usize>) {
    match bytes[span.start..].first_chunk::<SHORT>() {
        Some(more) if span.len() <= SHORT => {
            let end = values.len() + span.len();
            values.extend_from_slice(more);
            values.truncate(end);
        }
        _ => values.extend_from_slice(&bytes[span]),
    }
}

impl<O: OffsetSizeTrait + Element> Lane for Bytes<O> {
    fn measure(&self, array: &dyn Array, block: &Block<'_>, bytes: &mut [usize]) -> usize {
        let data = array.to_data();
        let (offsets, _) = source::<O>(&data);
        for (bounds, id) in offsets.windows(2).zip(block.ids) {
            bytes[*id as usize] += (bounds[1] - bounds[0]).as_usize();
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
        let (offsets, bytes) = source::<O>(&data);
        let mut grown = 0;
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            grow::fetch(&bytes[first.as_usize()..last.as_usize()], self.parts.len());
        }
        for partition in block.plan.touched() {
            let (part, rows) = (&mut self.parts[partition], block.plan.rows(partition));
            let [hint, bytes_hint] = part.hints;
            // One more, for the offset before the first value.
            let more = rows.len() + usize::from(part.ends.is_empty());
            grown += self.spare_ends.reserve(&mut part.ends, more, hint, self.room.rows + 1);
            if part.ends.is_empty() {
                part.ends.push(O::zero());
            }
            let span = |row: &u32| {
                let row = *row as usize;
                offsets[row].as_usize()..offsets[row + 1].as_usize()
            };
            let size: usize = rows.iter().map(|row| span(row).len()).sum();
            let bytes_hint = match bytes_hint {
                0 => (size / rows.len() * hint).min(self.room.first_bytes),
                last => last,
            };
            grown += self.spare_values.reserve(
                &mut part.values,
                size + SHORT,
                bytes_hint,
                self.room.bytes + SHORT,
            );
            for row in rows {
                append_value(&mut part.values, bytes, span(row));
                part.ends.push(O::usize_as(part.values.len()));
            }
        }
        Ok(grown + self.nulls.append_nulls(array.nulls(), block))
    }

    #[allow(
        unsafe_code,
        reason = "checking text again costs a tenth of all, and more where it is not ASCII"
    )]
    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let part = &mut self.parts[partition];
        let (ends, values) = (std::mem::take(&mut part.ends), std::mem::take(&mut part.values));
        part.hints = [ends.len(), values.len()].map(grow::hint);
        let held = bytes_of(&ends) + bytes_of(&values);
        assert_eq!(ends.len(), rows + 1);
        let (nulls, more) = self.nulls.take_nulls(partition, rows);
        let builder = ArrayData::builder(self.data_type.clone())
            .len(rows)
            .add_buffer(self.spare_ends.buffer(ends))
            .add_buffer(self.spare_values.buffer(values))
            .nulls(nulls);
        // SAFETY: the offsets begin at zero and each further one is the length of
        // the values when a value was appended, so they never sink and end within
        // the values; they fit their type, since a chunk has at most 2^30 bytes or
        // is one value of an array with such offsets. There is one more than rows,
        // as asserted. Each value is a whole value of an array of the same type:
        // where that is text, it is valid text, with its bounds between characters.
        // The validity has a bit for each row.
        let data = unsafe { builder.build_unchecked() };
        Ok((vec![make_array(data)], held + more))
    }

    fn room(&self, partition: usize) -> usize {
        let part = &self.parts[partition];
        grow::room(&part.values, part.ends.len()).min(part.ends.capacity())
    }

    fn shed(&mut self) {
        self.spare_ends.shed();
        self.spare_values.shed();
    }
}
