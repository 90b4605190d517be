//! A backup as a Flight stream: rows of (file, offset, data).
//!
//! Any Flight client can take one with DoGet: ticket `backup/all`. The schema's
//! metadata says what it is of ([`Head`], under `sheaf.backup`). Files come one
//! after the other, each in order of its offsets; one without data has one
//! row. The last row has the file `END` and a [`Tail`]: a stream without it was
//! broken off.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder, UInt64Builder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// First element of the ticket.
pub(crate) const NAMESPACE: &str = "backup";
/// Everything that the server has.
pub(crate) const TICKET: &str = "backup/all";
/// Name of the last row.
pub(crate) const END: &str = "END";
/// Form of the stream, and of the backup that is made of it.
pub(crate) const VERSION: u32 = super::manifest::VERSION;

const HEAD_KEY: &str = "sheaf.backup";
/// Data of one row at most.
pub(crate) const PART: usize = 128 << 10;
/// Data of one record batch, more or less.
const GROUP: usize = 256 << 10;
/// Rows of one record batch at most.
const ROWS: usize = 1_024;

/// What the stream is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) version: u32,
    pub(crate) server_version: String,
    pub(crate) mode: String,
    /// The Valkey that has the coordinator's state; empty where none has.
    #[serde(default)]
    pub(crate) coordinator: String,
    pub(crate) locations: Vec<String>,
    pub(crate) begun_at: String,
    pub(crate) has_state: bool,
    pub(crate) has_payloads: bool,
    /// Payloads there were at its beginning.
    pub(crate) payloads: u64,
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tail {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) payloads: u64,
    /// Payloads that the server found damaged, and set aside.
    pub(crate) damaged: u64,
}

impl Head {
    /// The schema of a stream with this head.
    pub(crate) fn schema(&self) -> Result<SchemaRef, serde_json::Error> {
        let metadata = HashMap::from([(HEAD_KEY.to_owned(), serde_json::to_string(self)?)]);
        Ok(Arc::new(Schema::new_with_metadata(fields(), metadata)))
    }

    /// The head of a stream, if it is that of a backup.
    pub(crate) fn of(schema: &Schema) -> Option<Self> {
        let same = schema
            .fields()
            .iter()
            .map(|field| (field.name(), field.data_type()))
            .eq(fields().iter().map(|field| (field.name(), field.data_type())));
        let head = schema.metadata().get(HEAD_KEY).filter(|_| same)?;
        serde_json::from_str(head).ok()
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("data", DataType::Binary, false),
    ]
}

/// Gathers rows into record batches.
pub(crate) struct Rows {
    schema: SchemaRef,
    files: StringBuilder,
    offsets: UInt64Builder,
    data: BinaryBuilder,
    rows: usize,
    bytes: usize,
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        let (files, offsets, data) =
            (StringBuilder::new(), UInt64Builder::new(), BinaryBuilder::new());
        Rows { schema, files, offsets, data, rows: 0, bytes: 0 }
    }

    pub(crate) fn add(&mut self, file: &str, offset: u64, data: &[u8]) {
        self.files.append_value(file);
        self.offsets.append_value(offset);
        self.data.append_value(data);
        (self.rows, self.bytes) = (self.rows + 1, self.bytes + data.len());
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= GROUP
    }

    /// The rows so far; it is empty then.
    pub(crate) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        (self.rows, self.bytes) = (0, 0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.files.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.data.finish()),
        ];
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// The rows of a record batch of such a stream.
pub(crate) fn rows(batch: &RecordBatch) -> impl Iterator<Item = (&str, u64, &[u8])> {
    let files = batch.column(0).as_string::<i32>();
    let offsets = batch.column(1).as_primitive::<UInt64Type>();
    let data = batch.column(2).as_binary::<i32>();
    (0..batch.num_rows()).map(move |row| (files.value(row), offsets.value(row), data.value(row)))
}
