//! Columns of booleans.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, BooleanArray};

use super::bits::Bitmaps;
use super::lane::{Block, Lane, Room};
use crate::error::Error;

pub(super) struct Booleans {
    values: Bitmaps,
    nulls: Bitmaps,
}

impl Booleans {
    pub(super) fn new(room: &Room) -> Self {
        let bitmaps = || Bitmaps::new(room.partitions, room.rows);
        Booleans { values: bitmaps(), nulls: bitmaps() }
    }
}

impl Lane for Booleans {
    fn append(
        &mut self,
        array: &dyn Array,
        block: &Block<'_>,
        _: &mut [usize],
    ) -> Result<usize, Error> {
        let grown = self.values.append(array.as_boolean().values(), block);
        Ok(grown + self.nulls.append_nulls(array.nulls(), block))
    }

    fn take(&mut self, partition: usize, rows: usize) -> Result<(Vec<ArrayRef>, usize), Error> {
        let (values, held) = self.values.take(partition, rows);
        let (nulls, more) = self.nulls.take_nulls(partition, rows);
        Ok((vec![Arc::new(BooleanArray::new(values, nulls))], held + more))
    }
}
