//! Keys and values.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use sheaf_raft::machine::{Applied, MachineError, StateMachine};

/// Bytes of a key; the rest of a command is its value.
pub(super) const KEY: usize = 16;

/// Rows of one part of a snapshot: a megabyte of values of 256 bytes.
const PART: usize = 4_096;

#[derive(Default)]
pub(super) struct Values {
    values: HashMap<Bytes, Bytes>,
    /// What is left of the snapshot that is taken.
    snapshot: Vec<(Bytes, Bytes)>,
}

impl Values {
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.values.contains_key(key)
    }
}

impl StateMachine for Values {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        let command = entry.command;
        if command.len() < KEY {
            return Bytes::from_static(b"-");
        }
        self.values.insert(command.slice(..KEY), command.slice(KEY..));
        Bytes::from_static(b"+")
    }

    fn schema(&self) -> SchemaRef {
        let column = |name| Field::new(name, DataType::Binary, false);
        Arc::new(Schema::new(vec![column("key"), column("value")]))
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.snapshot =
            self.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let rest = self.snapshot.len().saturating_sub(PART);
        let part = self.snapshot.split_off(rest);
        if part.is_empty() {
            return Ok(None);
        }
        let keys: BinaryArray = part.iter().map(|(key, _)| Some(&key[..])).collect();
        let values: BinaryArray = part.iter().map(|(_, value)| Some(&value[..])).collect();
        Ok(Some(RecordBatch::try_new(self.schema(), vec![Arc::new(keys), Arc::new(values)])?))
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        let mut values = HashMap::new();
        for batch in batches {
            let batch = batch?;
            let column = |name| {
                let found = batch.column_by_name(name).and_then(|it| it.as_binary_opt::<i32>());
                found.ok_or_else(|| format!("a snapshot without {name}s"))
            };
            let (keys, all) = (column("key")?, column("value")?);
            let copied = |bytes: Option<&[u8]>| Bytes::copy_from_slice(bytes.unwrap_or_default());
            values.extend(keys.iter().map(copied).zip(all.iter().map(copied)));
        }
        self.values = values;
        Ok(())
    }

    fn digest(&mut self) -> u64 {
        // In any order.
        self.values.iter().fold(0, |sum: u64, pair| {
            let mut hasher = DefaultHasher::new();
            pair.hash(&mut hasher);
            sum.wrapping_add(hasher.finish())
        })
    }
}
