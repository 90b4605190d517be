//! Columns of all other types: pieces that are put together when a chunk is sealed.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_buffer::ArrowNativeType as _;
use arrow_data::ArrayData;
use arrow_schema::DataType;
use arrow_select::take::take;

use super::compact::{compact, shares};
use super::lane::{Block, Lane, Room};
use crate::error::Error;

pub(super) struct Other {
    parts: Vec<Vec<ArrayRef>>,
    /// Whether pieces share memory of their batch before they are compacted.
    shares: bool,
    memory: Memory,
}

impl Other {
    pub(super) fn new(data_type: DataType, room: &Room) -> Self {
        Other {
            parts: vec![Vec::new(); room.partitions],
            shares: shares(&data_type),
            memory: Memory::default(),
        }
    }
}

impl Lane for Other {
    fn measure(&self, array: &dyn Array, _: &Block<'_>, _: &mut [usize]) -> usize {
        slice_bytes(&array.to_data())
    }

    fn append(
        &mut self,
        array: &dyn Array,
        block: &Block<'_>,
        sizes: &mut [usize],
    ) -> Result<usize, Error> {
        let mut grown = 0;
        for partition in block.plan.touched() {
            let rows = UInt32Array::from(block.plan.rows(partition).to_vec());
            let mut piece = take(array, &rows, None)?;
            if self.shares {
                piece = compact(&piece)?;
            }
            let data = piece.to_data();
            grown += self.memory.add(&data);
            sizes[partition] += slice_bytes(&data);
            self.parts[partition].push(piece);
        }
        Ok(grown)
    }

    fn take(&mut self, partition: usize, _: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let pieces = std::mem::take(&mut self.parts[partition]);
        let freed = pieces.iter().map(|piece| self.memory.remove(&piece.to_data())).sum();
        Ok((pieces, freed))
    }
}

/// Bytes of the rows of an array; of a dictionary, those of its keys.
fn slice_bytes(data: &ArrayData) -> usize {
    let lists = |from: usize, to: usize| slice_bytes(&data.child_data()[0].slice(from, to - from));
    let end = data.offset() + data.len();
    match data.data_type() {
        _ if data.is_empty() => 0,
        DataType::List(_) | DataType::Map(..) => {
            let offsets = data.buffers()[0].typed_data::<i32>();
            data.len() * 4 + lists(offsets[data.offset()].as_usize(), offsets[end].as_usize())
        }
        DataType::LargeList(_) => {
            let offsets = data.buffers()[0].typed_data::<i64>();
            data.len() * 8 + lists(offsets[data.offset()].as_usize(), offsets[end].as_usize())
        }
        DataType::FixedSizeList(_, size) => {
            let size = size.as_usize();
            lists(data.offset() * size, end * size)
        }
        DataType::Struct(_) => {
            let children = data.child_data().iter();
            children.map(|child| slice_bytes(&child.slice(data.offset(), data.len()))).sum()
        }
        DataType::Dictionary(key, _) => data.len() * key.primitive_width().unwrap_or(8),
        _ => data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()),
    }
}

/// Memory of pieces: each buffer once, however many pieces share it.
#[derive(Default)]
struct Memory {
    /// By address, bytes and users.
    buffers: HashMap<usize, (usize, usize)>,
}

/// What a piece takes by itself, beside its buffers.
const PIECE: usize = 256;

impl Memory {
    fn add(&mut self, data: &ArrayData) -> usize {
        let mut grown = PIECE;
        each_buffer(data, &mut |address, bytes| {
            let entry = self.buffers.entry(address).or_insert((bytes, 0));
            entry.1 += 1;
            if entry.1 == 1 {
                grown += bytes;
            }
        });
        grown
    }

    fn remove(&mut self, data: &ArrayData) -> usize {
        let mut freed = PIECE;
        each_buffer(data, &mut |address, _| {
            if let Some(entry) = self.buffers.get_mut(&address) {
                entry.1 -= 1;
                if entry.1 == 0 {
                    freed += entry.0;
                    self.buffers.remove(&address);
                }
            }
        });
        freed
    }
}

fn each_buffer(data: &ArrayData, visit: &mut impl FnMut(usize, usize)) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        visit(buffer.data_ptr().addr().get(), buffer.capacity());
    }
    for child in data.child_data() {
        each_buffer(child, visit);
    }
}
