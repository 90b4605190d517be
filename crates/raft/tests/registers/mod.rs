//! A state machine of registers, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use sheaf_raft::machine::{Applied, MachineError, StateMachine};

/// What a register is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// Take a value.
    Write { key: u64, value: u64 },
    /// Take a value if it has another one.
    Swap { key: u64, expected: u64, new: u64 },
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Done,
    Swapped(bool),
    Unreadable,
}

impl Ask {
    /// The command; `id` makes it one of its own.
    pub(crate) fn command(self, id: u64) -> Bytes {
        let words = match self {
            Ask::Write { key, value } => [0, key, value, 0, id],
            Ask::Swap { key, expected, new } => [1, key, expected, new, id],
        };
        words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>().into()
    }

    fn read(command: &[u8]) -> Option<Ask> {
        let word = |at: usize| {
            let bytes = command.get(at * 8..at * 8 + 8)?;
            bytes.try_into().ok().map(u64::from_be_bytes)
        };
        match (command.len(), word(0)?) {
            (40, 0) => Some(Ask::Write { key: word(1)?, value: word(2)? }),
            (40, 1) => Some(Ask::Swap { key: word(1)?, expected: word(2)?, new: word(3)? }),
            _ => None,
        }
    }
}

impl Said {
    fn bytes(self) -> Bytes {
        Bytes::from_static(match self {
            Said::Done => b"d",
            Said::Swapped(true) => b"s",
            Said::Swapped(false) => b"n",
            Said::Unreadable => b"?",
        })
    }

    /// Reads an answer.
    pub(crate) fn read(answer: &[u8]) -> Said {
        match answer {
            b"d" => Said::Done,
            b"s" => Said::Swapped(true),
            b"n" => Said::Swapped(false),
            _ => Said::Unreadable,
        }
    }
}

/// Values by key; a key that was never written has 0.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    values: BTreeMap<u64, u64>,
    /// How many commands were applied.
    count: u64,
    snapshot: Option<RecordBatch>,
}

impl Registers {
    /// The value of a key.
    pub(crate) fn value(&self, key: u64) -> u64 {
        self.values.get(&key).copied().unwrap_or(0)
    }

    fn batch(&self) -> Result<RecordBatch, MachineError> {
        // The first row is the count.
        let keys = std::iter::once(u64::MAX).chain(self.values.keys().copied());
        let values = std::iter::once(self.count).chain(self.values.values().copied());
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(keys)),
            Arc::new(UInt64Array::from_iter_values(values)),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

impl StateMachine for Registers {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        let said = match Ask::read(entry.command) {
            None => return Said::Unreadable.bytes(),
            Some(Ask::Write { key, value }) => {
                self.values.insert(key, value);
                Said::Done
            }
            Some(Ask::Swap { key, expected, new }) => {
                let hits = self.value(key) == expected;
                if hits {
                    self.values.insert(key, new);
                }
                Said::Swapped(hits)
            }
        };
        self.count += 1;
        said.bytes()
    }

    fn schema(&self) -> SchemaRef {
        let field = |name| Field::new(name, DataType::UInt64, false);
        Arc::new(Schema::new(vec![field("key"), field("value")]))
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.snapshot = Some(self.batch()?);
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        Ok(self.snapshot.take())
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        let mut restored = Registers::default();
        for batch in batches {
            let batch = batch?;
            let column = |at: usize| {
                let column = batch.column(at).as_primitive_opt::<UInt64Type>();
                column.ok_or("a column that is not of numbers")
            };
            for (key, value) in column(0)?.values().iter().zip(column(1)?.values()) {
                if *key == u64::MAX {
                    restored.count = *value;
                } else {
                    restored.values.insert(*key, *value);
                }
            }
        }
        *self = restored;
        Ok(())
    }

    fn digest(&mut self) -> u64 {
        let pairs = self.values.iter().flat_map(|(key, value)| [*key, *value]);
        hash(std::iter::once(self.count).chain(pairs))
    }
}

/// A hash of words, the same everywhere.
pub(crate) fn hash(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

/// A hash of bytes, the same everywhere.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    hash(bytes.iter().map(|byte| u64::from(*byte)))
}
