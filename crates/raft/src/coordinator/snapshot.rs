//! The state as record batches: the head, then queues, then batches.
//!
//! | column | type | |
//! |---|---|---|
//! | `kind` | Utf8 | `head` (one row, the first), `queue` or `batch` |
//! | `key` | Utf8, null | name of the queue |
//! | `sequence` | UInt64, null | of the batch, in the order of registration |
//! | `record` | Binary | a message of `sheaf.raft.v1` (head) or `sheaf.storage.v1` |
//!
//! A record that cannot be read makes the whole snapshot refused, with code
//! `corrupt`: it was checksummed on its way, so the damage is older, and a node that
//! made a failed batch of it would differ from the others for good.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{Array as _, BinaryArray, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use prost::Message as _;
use sheaf_coordinator::Error;
use sheaf_coordinator::engine::{Damage, Engine, RECORD_VERSION};
use sheaf_coordinator::migration::Phase;
use sheaf_proto::raft::v1::CoordinatorHead;
use sheaf_proto::storage::v1::QueueRecord;
use sheaf_retry::Code;

use super::command::config;
use crate::machine::MachineError;

/// The version that snapshots are written with; greater ones are refused.
pub const SNAPSHOT_VERSION: u32 = 1;

/// Record bytes after which a batch is full.
const PART_BYTES: usize = 1 << 20;

pub(super) const HEAD: &str = "head";
pub(super) const QUEUE: &str = "queue";
pub(super) const BATCH: &str = "batch";

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("kind", DataType::Utf8, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("sequence", DataType::UInt64, true),
        Field::new("record", DataType::Binary, false),
    ]))
}

/// One row.
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) key: Option<String>,
    pub(super) sequence: Option<u64>,
    pub(super) record: Vec<u8>,
}

/// A snapshot that is being taken.
#[derive(Default)]
pub(super) struct Taking {
    pub(super) rows: VecDeque<Row>,
    pub(super) is_last: bool,
    /// Of what was copied so far, as [`Engine::digest`] adds it up.
    pub(super) digest: u64,
}

impl Taking {
    /// Rows for one record batch.
    pub(super) fn part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let mut bytes = 0;
        let within = |row: &Row| {
            let fits = bytes < PART_BYTES;
            bytes += row.record.len();
            fits
        };
        let count = self.rows.iter().map(within).take_while(|fits| *fits).count();
        if count == 0 {
            return Ok(None);
        }
        let rows: Vec<Row> = self.rows.drain(..count).collect();
        let kinds = rows.iter().map(|row| row.kind);
        let keys = rows.iter().map(|row| row.key.as_deref());
        let records = rows.iter().map(|row| row.record.as_slice());
        let batch = RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(StringArray::from_iter_values(kinds)),
                Arc::new(StringArray::from_iter(keys)),
                Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.sequence))),
                Arc::new(BinaryArray::from_iter_values(records)),
            ],
        )?;
        Ok(Some(batch))
    }

    /// Whether there is enough for a part.
    pub(super) fn is_full(&self) -> bool {
        self.is_last || self.rows.iter().map(|row| row.record.len()).sum::<usize>() >= PART_BYTES
    }
}

/// What a snapshot held.
pub(super) struct Restored {
    pub(super) engine: Engine,
    pub(super) phase: Phase,
    pub(super) is_led: bool,
}

pub(super) fn corrupt(problem: impl std::fmt::Display) -> MachineError {
    let operation = format!("read a snapshot of the coordinator: {problem}");
    Box::new(Error::Backend { operation, code: Code::Corrupt, source: None })
}

pub(super) fn newer(what: &str, version: u32, known: u32) -> Error {
    let operation = format!(
        "read {what} of version {version}: this build knows up to {known}; bring this node on"
    );
    Error::Backend { operation, code: Code::FormatNewer, source: None }
}

/// Builds the state from the rows of a snapshot.
struct Reading {
    head: CoordinatorHead,
    engine: Engine,
    phase: Phase,
    turns: Vec<QueueRecord>,
    queues: u64,
    batches: u64,
}

impl Reading {
    fn begin(record: &[u8]) -> Result<Self, MachineError> {
        let head = CoordinatorHead::decode(record).map_err(corrupt)?;
        if head.version > SNAPSHOT_VERSION {
            return Err(Box::new(newer("a snapshot", head.version, SNAPSHOT_VERSION)));
        }
        let meta = head.meta.clone().ok_or_else(|| corrupt("its head has no meta"))?;
        if meta.version > RECORD_VERSION {
            return Err(Box::new(newer("a snapshot", meta.version, RECORD_VERSION)));
        }
        let given = head.config.as_ref().ok_or_else(|| corrupt("its head has no configuration"))?;
        let mut engine = Engine::new(config(given)?, meta.epoch);
        engine.load_meta(&meta);
        engine.load_keys_from((head.first_key_until, head.first_key_sequence));
        let phase = meta.migration.map_or(Ok(Phase::Serving), Phase::from_stored)?;
        Ok(Reading { head, engine, phase, turns: Vec::new(), queues: 0, batches: 0 })
    }

    fn queue(&mut self, name: &str, record: &[u8]) -> Result<(), MachineError> {
        let record = QueueRecord::decode(record).map_err(corrupt)?;
        if record.version > RECORD_VERSION {
            return Err(Box::new(newer("a queue", record.version, RECORD_VERSION)));
        }
        if record.queue != name {
            return Err(corrupt(format!("queue {name:?} says that it is {:?}", record.queue)));
        }
        self.engine.load_queue(&record)?;
        self.turns.push(record);
        self.queues += 1;
        Ok(())
    }

    fn batch(&mut self, sequence: u64, record: &[u8]) -> Result<(), MachineError> {
        self.batches += 1;
        self.engine.load(sequence, record).map_err(|damage| damaged(sequence, damage))
    }

    fn finish(mut self) -> Result<Restored, MachineError> {
        let (queues, batches) = (self.head.queues, self.head.batches);
        if (self.queues, self.batches) != (queues, batches) {
            let (found, other) = (self.queues, self.batches);
            return Err(corrupt(format!(
                "it has {found} queues and {other} batches, its head says {queues} and {batches}"
            )));
        }
        self.turns.iter().for_each(|record| self.engine.load_turns(record));
        self.engine.finish_load();
        self.engine.take_effects();
        Ok(Restored { engine: self.engine, phase: self.phase, is_led: self.head.is_led })
    }
}

/// A record of a batch that cannot be used.
pub(super) fn damaged(sequence: u64, damage: Damage) -> MachineError {
    match damage {
        Damage::Newer(version) => Box::new(newer("a batch", version, RECORD_VERSION)),
        Damage::Corrupt { id, why } => {
            let id = id.map_or_else(|| format!("number {sequence}"), |id| id.to_string());
            corrupt(format!("batch {id}: {why}"))
        }
    }
}

/// Reads a whole snapshot; what is there stays until it succeeded.
pub(super) fn restore(
    batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
) -> Result<Restored, MachineError> {
    let mut reading: Option<Reading> = None;
    for batch in batches {
        let batch = batch?;
        if batch.schema().fields() != schema().fields() {
            return Err(corrupt(format!("its columns are {}", batch.schema())));
        }
        let kinds = batch.column(0).as_string::<i32>();
        let keys = batch.column(1).as_string::<i32>();
        let sequences = batch.column(2).as_primitive::<UInt64Type>();
        let records = batch.column(3).as_binary::<i32>();
        for row in 0..batch.num_rows() {
            let record = records.value(row);
            match (kinds.value(row), &mut reading) {
                (HEAD, None) => reading = Some(Reading::begin(record)?),
                (QUEUE, Some(reading)) => reading.queue(keys.value(row), record)?,
                (BATCH, Some(reading)) if sequences.is_valid(row) => {
                    reading.batch(sequences.value(row), record)?;
                }
                (kind, _) => {
                    return Err(corrupt(format!("a row of kind {kind:?} is out of place")));
                }
            }
        }
    }
    reading.ok_or_else(|| corrupt("it has no rows"))?.finish()
}
