//! Rows into the bytes of a Parquet file.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::link::Link;
use crate::error::Error;
use crate::file_sink::{SinkOptions, parquet_writer, supports};
use crate::format::FileFormat;

/// A whole file in memory: it is at most about as large as its rows are there.
pub(super) fn parquet(rows: &[RecordBatch], link: &Link, place: &str) -> Result<Bytes, Error> {
    let Some(first) = rows.first() else {
        return Err(Error::Invalid(format!("{place}: no batch says what the columns are")));
    };
    let schema = first.schema();
    supports::check(FileFormat::Parquet, &schema)?;
    let refused =
        |error: ParquetError| Error::Invalid(format!("Parquet cannot hold {place}: {error}"));
    let mut writer: ArrowWriter<Vec<u8>> =
        parquet_writer(Vec::new(), &schema, &SinkOptions::default()).map_err(refused)?;
    for batch in rows {
        if !Arc::ptr_eq(&schema, batch.schema_ref()) && schema != batch.schema() {
            return Err(Error::Invalid(format!("{place}: its rows do not have the same columns")));
        }
        writer.write(batch).map_err(refused)?;
    }
    for (key, value) in link.pairs() {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    writer.into_inner().map(Bytes::from).map_err(refused)
}
