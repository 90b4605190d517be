//! The state machine: what every node does with the same commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_raft::machine::{Applied, MachineError, StateMachine};

/// A command, as JSON.
#[derive(Serialize, Deserialize)]
struct Swap {
    name: String,
    expected: Option<i64>,
    new: i64,
}

/// Sets a name to `new` if it has `expected`; `None` is for a name that is not there.
pub(crate) fn swap(name: &str, expected: Option<i64>, new: i64) -> Bytes {
    let command = Swap { name: name.to_owned(), expected, new };
    serde_json::json!(command).to_string().into()
}

/// Values by name.
#[derive(Default)]
pub(crate) struct Registers {
    values: BTreeMap<String, i64>,
    snapshot: Option<RecordBatch>,
}

impl Registers {
    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<i64> {
        self.values.get(name).copied()
    }
}

impl StateMachine for Registers {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        // Every node gets the same bytes: none may stop at what it cannot read.
        let Ok(command) = serde_json::from_slice::<Swap>(entry.command) else {
            return Bytes::from_static(b"unreadable");
        };
        if self.get(&command.name) != command.expected {
            return Bytes::from_static(b"it has another value");
        }
        self.values.insert(command.name, command.new);
        Bytes::from_static(b"done")
    }

    fn schema(&self) -> SchemaRef {
        let fields = [("name", DataType::Utf8), ("value", DataType::Int64)];
        Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, false)).to_vec()))
    }

    /// A large state would remember here only where it is, and keep old values until
    /// they are written; this one is small.
    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        let names = Arc::new(StringArray::from_iter_values(self.values.keys()));
        let values = Arc::new(Int64Array::from_iter_values(self.values.values().copied()));
        self.snapshot = Some(RecordBatch::try_new(self.schema(), vec![names, values])?);
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        Ok(self.snapshot.take())
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        let mut restored = BTreeMap::new();
        for batch in batches {
            let batch = batch?;
            let names = batch.column(0).as_string_opt::<i32>().ok_or("names are no strings")?;
            let values = batch.column(1).as_primitive_opt::<Int64Type>();
            let values = values.ok_or("values are no numbers")?;
            let pairs = names.iter().flatten().zip(values.values());
            restored.extend(pairs.map(|(name, value)| (name.to_owned(), *value)));
        }
        self.values = restored;
        Ok(())
    }

    /// Any hash that is the same on every machine.
    fn digest(&mut self) -> u64 {
        let text = format!("{:?}", self.values);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
