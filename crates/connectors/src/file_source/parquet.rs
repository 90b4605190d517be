//! Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::open_file;
use crate::error::{Error, io_cause};
use crate::file_sink::Footer;

/// Reads the footer.
pub(crate) fn metadata(path: &Path) -> Result<ArrowReaderMetadata, Error> {
    let file = open_file(path)?;
    ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| error(path, e))
}

/// The Arrow schema that was written, without the marks of our sinks.
pub(crate) fn schema(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let schema = metadata.schema();
    let mut keys = schema.metadata().clone();
    keys.retain(|key, _| !Footer::KEYS.contains(&key.as_str()));
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), keys))
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
        let columns = batch.columns().to_vec();
        Some(
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
                .map_err(|e| arrow_error(&self.place, e)),
        )
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
