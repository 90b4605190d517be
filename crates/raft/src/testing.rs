//! What the tests of this crate share.

use std::hash::Hasher as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::RaftLogStorageExt as _;
use twox_hash::XxHash3_64;

use crate::log::{Flush, Identity, LogStore, Options};
use crate::machine::{Applied, MachineError, StateMachine};
use crate::stored::{Entry, LogId};
use crate::types::Command;

/// Commands that a snapshot's record batch has.
const PART: usize = 100;

/// Remembers all commands.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) commands: Vec<(u64, Bytes)>,
    hasher: XxHash3_64,
    snapshot: Option<(usize, usize)>,
}

impl Journal {
    /// As a machine does whose state is replaced by a command.
    pub(crate) fn give_up_snapshot(&mut self) {
        self.snapshot = None;
    }

    fn add(&mut self, index: u64, command: Bytes) {
        self.hasher.write_u64(index);
        self.hasher.write(&command);
        self.commands.push((index, command));
    }
}

impl StateMachine for Journal {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        self.add(entry.index, entry.command.clone());
        entry.command.clone()
    }

    fn schema(&self) -> SchemaRef {
        let index = Field::new("index", DataType::UInt64, false);
        let command = Field::new("command", DataType::Binary, false);
        Arc::new(Schema::new(vec![index, command]))
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.snapshot = Some((0, self.commands.len()));
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let Some((from, end)) = self.snapshot else { return Err("none was begun".into()) };
        if from == end {
            return Ok(None);
        }
        let to = end.min(from + PART);
        self.snapshot = Some((to, end));
        let part = &self.commands[from..to];
        let indexes: UInt64Array = part.iter().map(|(index, _)| *index).collect();
        let commands: BinaryArray = part.iter().map(|(_, command)| Some(command)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(indexes), Arc::new(commands)];
        Ok(Some(RecordBatch::try_new(self.schema(), columns)?))
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        *self = Journal::default();
        for batch in batches {
            let batch = batch?;
            let indexes = batch.column(0).as_primitive::<UInt64Type>();
            let commands = batch.column(1).as_binary::<i32>();
            for row in 0..batch.num_rows() {
                self.add(indexes.value(row), Bytes::copy_from_slice(commands.value(row)));
            }
        }
        Ok(())
    }

    fn digest(&mut self) -> u64 {
        self.hasher.finish()
    }
}

pub(crate) fn identity() -> Identity {
    Identity { cluster: "test".to_owned(), node: 1 }
}

/// Small, so that tests reach the limits.
#[allow(clippy::field_reassign_with_default, reason = "there are more fields with a feature")]
pub(crate) fn small(flush: Flush) -> Options {
    let mut options = Options::default();
    options.segment_bytes = 700;
    options.cache_bytes = 1_000;
    options.queue_bytes = 4_000;
    options.read_bytes = 600;
    options.flush = flush;
    options
}

pub(crate) fn open(path: &Path, options: Options) -> LogStore {
    LogStore::open(path, &identity(), options).unwrap()
}

pub(crate) fn entry(term: u64, index: u64, command: impl Into<Bytes>) -> Entry {
    let payload = EntryPayload::Normal(Command(command.into()));
    Entry { log_id: LogId::new_term_index(term, index), payload }
}

/// Appends, and returns when it is on disk.
pub(crate) async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry>) {
    let entries: Vec<Entry> = entries.into_iter().collect();
    log.blocking_append(entries).await.unwrap();
}
