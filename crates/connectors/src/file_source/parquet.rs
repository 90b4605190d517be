//! Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_cast::{can_cast_types, cast};
use arrow_schema::{Schema, SchemaRef};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::open_file;
use crate::error::{Error, io_cause};
use crate::file_sink::{Footer, RUNS_KEY, has_runs};

/// Reads the footer.
pub(crate) fn metadata(path: &Path) -> Result<ArrowReaderMetadata, Error> {
    let file = open_file(path)?;
    ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| error(path, e))
}

/// The Arrow schema that was written, without the marks of our sinks.
///
/// The library restores every type but run-end encoding: it yields the plain
/// values. Where our sinks wrote such a column they left its schema under a
/// key of their own, and it is encoded again here.
pub(crate) fn schema(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let read = metadata.schema();
    let mut keys = read.metadata().clone();
    keys.retain(|key, _| key != RUNS_KEY && !Footer::KEYS.contains(&key.as_str()));
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let written = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == RUNS_KEY));
    let mut fields = read.fields().clone();
    if let Some(text) = written.and_then(|pair| pair.value.as_deref())
        && let Some(written) = decode_schema(text)
        && written.fields().len() == fields.len()
    {
        let restored = fields.iter().zip(written.fields()).map(|(read, written)| {
            let plain = read.data_type() != written.data_type();
            let can = can_cast_types(read.data_type(), written.data_type());
            Arc::clone(if plain && has_runs(written.data_type()) && can { written } else { read })
        });
        fields = restored.collect();
    }
    Arc::new(Schema::new_with_metadata(fields, keys))
}

/// A schema as Arrow writers leave it in metadata: an IPC message in Base64.
fn decode_schema(text: &str) -> Option<Schema> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    let message = bytes.strip_prefix(&[0xff; 4]).and_then(|rest| rest.get(4..)).unwrap_or(&bytes);
    let message = arrow_ipc::root_as_message(message).ok()?;
    arrow_ipc::convert::try_fb_to_schema(message.header_as_schema()?).ok()
}

pub(crate) fn rows(metadata: &ArrowReaderMetadata) -> Option<u64> {
    u64::try_from(metadata.metadata().file_metadata().num_rows()).ok()
}

/// The batches of a Parquet file.
pub(crate) struct ParquetBatches {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    place: std::path::PathBuf,
}

impl ParquetBatches {
    pub(crate) fn open(
        path: &Path,
        metadata: ArrowReaderMetadata,
        schema: SchemaRef,
        rows: usize,
    ) -> Result<Self, Error> {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open_file(path)?, metadata)
            .with_batch_size(rows)
            .build()
            .map_err(|e| error(path, e))?;
        Ok(ParquetBatches { reader, schema, place: path.to_owned() })
    }
}

impl Iterator for ParquetBatches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(e) => return Some(Err(arrow_error(&self.place, e))),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        });
        let batch = columns.collect::<Result<_, _>>().and_then(|columns| {
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
        });
        Some(batch.map_err(|e| arrow_error(&self.place, e)))
    }
}

fn error(path: &Path, error: ParquetError) -> Error {
    match io_cause(&error) {
        Some(io) => super::read_error(path, "Parquet", io),
        None => Error::malformed(path.display().to_string(), "Parquet", error),
    }
}

fn arrow_error(path: &Path, error: arrow_schema::ArrowError) -> Error {
    match io_cause(&error) {
        Some(io) => super::read_error(path, "Parquet", io),
        None => Error::malformed(path.display().to_string(), "Parquet", error),
    }
}
