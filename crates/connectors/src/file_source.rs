//! Files as sources.

mod csv;
mod ipc;
mod json;
mod options;
mod parquet;
mod rechunk;
mod text;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::error::Error;
use crate::format::{self, Compression, FileFormat};
use crate::source::{BatchStream, Source};
use csv::Csv;
use ipc::IpcBatches;
use json::Json;
pub use options::SourceOptions;
use parquet::ParquetBatches;
use rechunk::Rechunk;

/// Rows decoded at a time: decoders allocate for all of them in advance.
const MAX_DECODED_ROWS: usize = 64 << 10;

/// Batches that were read ahead of the consumer.
const READ_AHEAD: usize = 2;

/// One local file, read as record batches.
///
/// Formats: Parquet, Arrow IPC (file or stream, told apart by content), CSV
/// and JSON (lines, or one array of objects), by extension or as the options
/// say; CSV and JSON also as `.gz` and `.zst`. Decoding runs on blocking
/// threads, at most two batches ahead of the consumer; a dropped stream ends
/// it at the next batch. An Arrow IPC file is read in the batches that it was
/// written in, so that one of those is in memory besides.
///
/// The schema is settled by [`FileSource::open`]: Parquet and Arrow IPC
/// restore what was written, metadata included; CSV and JSON take the schema
/// given or infer one from the first rows, and a later row that does not fit
/// is an error that names file and line. Whoever replaces the file while it is
/// open gets the errors of a broken file.
#[derive(Clone)]
pub struct FileSource {
    path: PathBuf,
    format: FileFormat,
    schema: SchemaRef,
    rows: Option<u64>,
    decode: Decode,
}

#[derive(Clone)]
enum Decode {
    Parquet(ArrowReaderMetadata),
    Ipc,
    Csv(Csv),
    Json(Json),
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

impl FileSource {
    /// Opens a path or `file://` URL and settles its schema.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the options do not fit the file or its format
    /// is not told; [`Error::Io`] where it cannot be read; [`Error::Malformed`]
    /// where its content is not of its format.
    pub async fn open(location: &str, options: SourceOptions) -> Result<Self, Error> {
        let path = format::local_path(location)?;
        let place = path.display().to_string();
        blocking("open", &place, move || FileSource::open_blocking(path, options)).await
    }

    fn open_blocking(path: PathBuf, options: SourceOptions) -> Result<Self, Error> {
        let named = format::of_name(&path);
        let Some(format) = options.format.or(named.format) else {
            return Err(Error::Invalid(format!(
                "the name of {} does not tell its format; name one of parquet, ipc, csv, json",
                path.display()
            )));
        };
        let compression = options.compression.unwrap_or(named.compression);
        if matches!(format, FileFormat::Parquet | FileFormat::Ipc) {
            check_binary(&path, format, compression, &options)?;
        }
        let (decode, schema, rows) = match format {
            FileFormat::Parquet => {
                let metadata = parquet::metadata(&path)?;
                let (schema, rows) = (parquet::schema(&metadata), parquet::rows(&metadata));
                (Decode::Parquet(metadata), schema, rows)
            }
            FileFormat::Ipc => {
                let reader = IpcBatches::open(&path)?;
                (Decode::Ipc, reader.schema(), reader.rows())
            }
            FileFormat::Csv => {
                let csv = Csv {
                    path: path.clone(),
                    compression,
                    header: options.header,
                    delimiter: options.delimiter.unwrap_or(if named.tabs { b'\t' } else { b',' }),
                    quote: options.quote,
                    max_record_bytes: options.max_record_bytes,
                };
                let schema = match options.schema {
                    Some(schema) => schema,
                    None => Arc::new(csv.infer(options.infer_rows)?),
                };
                (Decode::Csv(csv), schema, None)
            }
            FileFormat::Json => {
                let max_record_bytes = options.max_record_bytes;
                let json = Json { path: path.clone(), compression, max_record_bytes };
                let schema = match options.schema {
                    Some(schema) => schema,
                    None => Arc::new(json.infer(options.infer_rows)?),
                };
                (Decode::Json(json), schema, None)
            }
        };
        Ok(FileSource { path, format, schema, rows, decode })
    }

    /// The format that it is read in.
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn batches(&self, rows: usize) -> Result<Batches, Error> {
        let rows = rows.min(MAX_DECODED_ROWS);
        let schema = Arc::clone(&self.schema);
        Ok(match &self.decode {
            Decode::Parquet(metadata) => {
                Box::new(ParquetBatches::open(&self.path, metadata.clone(), schema, rows)?)
            }
            Decode::Ipc => Box::new(IpcBatches::open(&self.path)?),
            Decode::Csv(csv) => Box::new(csv.batches(&schema, rows)?),
            Decode::Json(json) => Box::new(json.batches(&schema, rows)?),
        })
    }
}

fn check_binary(
    path: &Path,
    format: FileFormat,
    compression: Compression,
    options: &SourceOptions,
) -> Result<(), Error> {
    let (path, name) = (path.display(), format.name());
    if compression != Compression::None {
        return Err(Error::Invalid(format!(
            "{path}: {name} is compressed inside the file; unpack it first"
        )));
    }
    if options.schema.is_some() {
        return Err(Error::Invalid(format!(
            "{path}: {name} carries its own schema; leave the schema out"
        )));
    }
    Ok(())
}

pub(crate) fn open_file(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let kind = file.metadata().map_err(|e| Error::io("open", path, e))?;
    if kind.is_dir() {
        return Err(Error::Invalid(format!("{} is a directory, not a file", path.display())));
    }
    Ok(file)
}

/// What reading met: an end too early and bytes that cannot be unpacked are
/// the file's fault, the rest is the system's.
fn read_error(path: &Path, format: &'static str, error: &io::Error) -> Error {
    let copy = io::Error::new(error.kind(), error.to_string());
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Error::malformed(path.display().to_string(), format, copy)
        }
        // zstd's own errors have no kind and no number of the system.
        io::ErrorKind::Other if error.raw_os_error().is_none() => {
            Error::malformed(path.display().to_string(), format, copy)
        }
        _ => Error::io("read", path, copy),
    }
}

#[async_trait]
impl Source for FileSource {
    async fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(Arc::clone(&self.schema))
    }

    async fn read(&self, rows_per_batch: usize) -> Result<BatchStream, Error> {
        if rows_per_batch == 0 {
            return Err(Error::Invalid("a batch has at least 1 row, 0 were asked for".to_owned()));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let source = self.clone();
        let place = self.path.display().to_string();
        let decoding = async move {
            let inner = sender.clone();
            let name = source.path.display().to_string();
            let done = blocking("decode", &place, move || {
                let batches = source.batches(rows_per_batch)?;
                let schema = Arc::clone(&source.schema);
                for batch in Rechunk::new(batches, schema, name, rows_per_batch) {
                    if inner.blocking_send(Ok(batch?)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = done.await {
                // The consumer may be gone: then nobody asks.
                drop(sender.send(Err(error)).await);
            }
        };
        tokio::spawn(decoding);
        Ok(futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        })
        .boxed())
    }

    async fn rows(&self) -> Result<Option<u64>, Error> {
        Ok(self.rows)
    }
}
