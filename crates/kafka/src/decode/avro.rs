//! Avro records, each with the schema that wrote it.

mod names;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_avro::reader::{Decoder, DecoderMode, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use arrow_schema::{ArrowError, Schema};

use super::Value;
use super::registry::RegisteredSchema;
use super::sieve::Fault;

/// Any number: the decoder holds one schema.
const ONLY: Fingerprint = Fingerprint::Id(0);

/// Decodes the records of one schema.
#[derive(Debug)]
pub(super) struct Avro {
    text: String,
    /// Empty, and none after a failure.
    ready: Option<Decoder>,
}

impl Avro {
    pub(super) fn compile(schema: &RegisteredSchema) -> Result<Self, String> {
        let text = names::resolve(&schema.text, &schema.references)?;
        let decoder = open(&text).map_err(|e| e.to_string())?;
        Ok(Avro { text, ready: Some(decoder) })
    }

    /// Decodes values without header, each of which is one record.
    pub(super) fn attempt(&mut self, values: &[Value<'_>]) -> Result<RecordBatch, Fault> {
        // It comes back only if all goes well: after an error it holds parts
        // of a record and fails good ones.
        let mut decoder = match self.ready.take() {
            Some(decoder) => decoder,
            None => open(&self.text).map_err(Fault::somewhere)?,
        };
        for (at, value) in values.iter().enumerate() {
            let consumed = decoder.decode(value.bytes).map_err(|e| Fault::at(at, e))?;
            if consumed != value.bytes.len() {
                let left = value.bytes.len() - consumed;
                return Err(Fault::at(at, format!("{left} bytes are left after the record")));
            }
        }
        let batch = match decoder.flush() {
            Ok(Some(batch)) => batch,
            Ok(None) => RecordBatch::new_empty(Arc::new(Schema::empty())),
            Err(error) => return Err(Fault::somewhere(error)),
        };
        if batch.num_rows() != values.len() {
            return Err(Fault::somewhere("not one row for each message"));
        }
        self.ready = Some(decoder);
        Ok(batch)
    }
}

fn open(text: &str) -> Result<Decoder, ArrowError> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(ONLY, AvroSchema::new(text.to_owned()))?;
    ReaderBuilder::new()
        // It bounds the rows of a batch, and allocates nothing.
        .with_batch_size(usize::MAX)
        .with_decoder_mode(DecoderMode::UnframedDatum)
        .with_writer_schema_store(store)
        .with_active_fingerprint(ONLY)
        .build_decoder()
}
