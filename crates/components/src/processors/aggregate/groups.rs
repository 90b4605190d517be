//! Which group a row is of.

use std::hash::{BuildHasher as _, RandomState};

use arrow_array::ArrayRef;
use arrow_row::{RowConverter, Rows};
use hashbrown::HashTable;
use sheaf_dataflow::ComponentError;
use twox_hash::XxHash3_64;

use crate::processors::failure;

/// Numbers groups from 0, in the order in which they first come.
pub(super) struct Groups {
    /// The keys of each group; none where all rows are one.
    keys: Option<Rows>,
    /// Hashes of keys, and groups.
    table: HashTable<(u64, u32)>,
    /// Others cannot choose keys that collide.
    seed: u64,
    is_empty: bool,
}

impl Groups {
    pub(super) fn new(converter: Option<&RowConverter>) -> Self {
        Groups {
            keys: converter.map(|converter| converter.empty_rows(0, 0)),
            table: HashTable::new(),
            seed: RandomState::new().hash_one(0),
            is_empty: true,
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Some(keys) => keys.num_rows(),
            None => usize::from(!self.is_empty),
        }
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.keys.as_ref().map_or(0, Rows::size) + self.table.capacity() * size_of::<(u64, u32)>()
    }

    /// The group of each row.
    pub(super) fn ids(
        &mut self,
        converter: Option<&RowConverter>,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<u32>, ComponentError> {
        self.is_empty &= rows == 0;
        let (Some(converter), Some(keys)) = (converter, &mut self.keys) else {
            return Ok(vec![0; rows]);
        };
        let own = converter.convert_columns(columns).map_err(failure::arrow("aggregate"))?;
        let mut ids: Vec<u32> = Vec::with_capacity(rows);
        for (row, key) in own.iter().enumerate() {
            // Rows of one group often come in a row.
            if let Some(last) = ids.last()
                && own.row(row - 1) == key
            {
                ids.push(*last);
                continue;
            }
            let hash = XxHash3_64::oneshot_with_seed(self.seed, key.data());
            let is_same =
                |(other, id): &(u64, u32)| *other == hash && keys.row(*id as usize) == key;
            if let Some((_, id)) = self.table.find(hash, is_same) {
                ids.push(*id);
                continue;
            }
            let id = u32::try_from(keys.num_rows())
                .map_err(|_| failure::limit("aggregate: over 4294967295 groups in a window"))?;
            keys.push(key);
            self.table.insert_unique(hash, (hash, id), |(hash, _)| *hash);
            ids.push(id);
        }
        Ok(ids)
    }

    /// The keys of all groups, as columns.
    pub(super) fn keys(
        &self,
        converter: Option<&RowConverter>,
    ) -> Result<Vec<ArrayRef>, ComponentError> {
        let (Some(converter), Some(keys)) = (converter, &self.keys) else { return Ok(Vec::new()) };
        converter.convert_rows(keys.iter()).map_err(failure::arrow("aggregate"))
    }
}
