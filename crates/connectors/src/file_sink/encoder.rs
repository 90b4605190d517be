//! Record batches into the bytes of a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use arrow_array::RecordBatch;
use arrow_csv::{Writer as CsvWriter, WriterBuilder as CsvWriterBuilder};
use arrow_ipc::writer::FileWriter;
use arrow_json::LineDelimitedWriter;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::{ArrowWriter, encode_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::footer::{Footer, RUNS_KEY};
use super::options::SinkOptions;
use super::supports::{has_dictionary, has_runs};
use crate::error::Error;
use crate::format::FileFormat;

/// Bytes gathered before a write.
const BUFFER: usize = 64 << 10;

/// A file being written in one of the formats.
pub(crate) struct Encoder {
    kind: Kind,
    schema: SchemaRef,
    /// Number of the first failed write: some formats keep only its text.
    failed: Arc<AtomicI32>,
    place: String,
    max_buffered_bytes: usize,
}

enum Kind {
    Parquet(Box<ArrowWriter<Out>>),
    Ipc { writer: Box<FileWriter<BufWriter<Out>>>, held: Option<Held> },
    Csv(Box<CsvWriter<BufWriter<Out>>>),
    Json(LineDelimitedWriter<BufWriter<Out>>),
}

/// Batches held back: an IPC file has one dictionary per column, so batches
/// that bring their own are joined, which unifies them.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

enum Refused {
    Arrow(ArrowError),
    Parquet(ParquetError),
    Io(io::Error),
}

impl From<ArrowError> for Refused {
    fn from(error: ArrowError) -> Self {
        Refused::Arrow(error)
    }
}

impl From<ParquetError> for Refused {
    fn from(error: ParquetError) -> Self {
        Refused::Parquet(error)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

impl Encoder {
    pub(crate) fn open(
        format: FileFormat,
        file: File,
        schema: SchemaRef,
        options: &SinkOptions,
        place: String,
    ) -> Result<Self, Error> {
        let failed = Arc::new(AtomicI32::new(0));
        let out = Out { file, failed: Arc::clone(&failed) };
        let kind = open_kind(format, out, &schema, options)
            .map_err(|refused| describe(refused, &failed, &place, format))?;
        let max_buffered_bytes = options.max_buffered_bytes;
        Ok(Encoder { kind, schema, failed, place, max_buffered_bytes })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let limit = self.max_buffered_bytes;
        if let Kind::Ipc { held: Some(held), .. } = &mut self.kind {
            held.bytes = held.bytes.saturating_add(rows.get_array_memory_size());
            if held.bytes > limit {
                return Err(Error::Limit {
                    what: format!("the dictionary-encoded rows of {}", self.place),
                    actual: held.bytes as u64,
                    limit: limit as u64,
                    advice: "write Parquet, or put smaller batches: an Arrow IPC file has one \
                             dictionary per column, for which its rows are joined in memory",
                });
            }
            held.batches.push(rows.clone());
            return Ok(());
        }
        let written = match &mut self.kind {
            Kind::Parquet(writer) => write_parquet(writer, rows, limit).map_err(Refused::from),
            Kind::Ipc { writer, .. } => writer.write(rows).map_err(Refused::from),
            Kind::Csv(writer) => writer.write(rows).map_err(Refused::from),
            Kind::Json(writer) => writer.write(rows).map_err(Refused::from),
        };
        written.map_err(|refused| self.describe(refused))
    }

    /// Writes what is left and the footer.
    pub(crate) fn close(&mut self, footer: &Footer) -> Result<(), Error> {
        let closed = close(&mut self.kind, &self.schema, footer);
        closed.map_err(|refused| self.describe(refused))
    }

    fn describe(&self, refused: Refused) -> Error {
        describe(refused, &self.failed, &self.place, self.kind.format())
    }
}

impl Kind {
    fn format(&self) -> FileFormat {
        match self {
            Kind::Parquet(_) => FileFormat::Parquet,
            Kind::Ipc { .. } => FileFormat::Ipc,
            Kind::Csv(_) => FileFormat::Csv,
            Kind::Json(_) => FileFormat::Json,
        }
    }
}

fn open_kind(
    format: FileFormat,
    out: Out,
    schema: &SchemaRef,
    options: &SinkOptions,
) -> Result<Kind, Refused> {
    let buffered = |out| BufWriter::with_capacity(BUFFER, out);
    Ok(match format {
        FileFormat::Parquet => Kind::Parquet(Box::new(parquet_writer(out, schema, options)?)),
        FileFormat::Ipc => {
            let writer = Box::new(FileWriter::try_new(buffered(out), schema)?);
            let dictionaries = schema.fields().iter().any(|f| has_dictionary(f.data_type()));
            Kind::Ipc { writer, held: dictionaries.then(Held::default) }
        }
        FileFormat::Csv => {
            let mut out = buffered(out);
            // With the first batch the writer would write it: there may be none.
            let names = RecordBatch::new_empty(Arc::clone(schema));
            CsvWriter::new(&mut out).write(&names)?;
            Kind::Csv(Box::new(CsvWriterBuilder::new().with_header(false).build(out)))
        }
        FileFormat::Json => Kind::Json(LineDelimitedWriter::new(buffered(out))),
    })
}

/// What writes Parquet as all sinks do.
pub(crate) fn parquet_writer<W: Write + Send>(
    out: W,
    schema: &SchemaRef,
    options: &SinkOptions,
) -> Result<ArrowWriter<W>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(options.parquet_compression)
        .set_max_row_group_row_count(Some(options.max_row_group_rows))
        .set_created_by(concat!("sheaf ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))?;
    if schema.fields().iter().any(|field| has_runs(field.data_type())) {
        let text = encode_arrow_schema(schema);
        writer.append_key_value_metadata(KeyValue::new(RUNS_KEY.to_owned(), text));
    }
    Ok(writer)
}

fn write_parquet(
    writer: &mut ArrowWriter<Out>,
    rows: &RecordBatch,
    limit: usize,
) -> Result<(), ParquetError> {
    writer.write(rows)?;
    if writer.memory_size() > limit {
        writer.flush()?;
    }
    Ok(())
}

fn close(kind: &mut Kind, schema: &SchemaRef, footer: &Footer) -> Result<(), Refused> {
    match kind {
        Kind::Parquet(writer) => {
            for (key, value) in footer.pairs() {
                writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
            }
            writer.finish()?;
        }
        Kind::Ipc { writer, held } => {
            if let Some(held) = held.take()
                && !held.batches.is_empty()
            {
                writer.write(&concat_batches(schema, &held.batches)?)?;
            }
            for (key, value) in footer.pairs() {
                writer.write_metadata(key, value);
            }
            writer.finish()?;
            writer.flush()?;
        }
        Kind::Csv(writer) => writer.write(&RecordBatch::new_empty(Arc::clone(schema)))?,
        Kind::Json(writer) => {
            writer.finish()?;
            writer.get_mut().flush()?;
        }
    }
    Ok(())
}

/// The system's error where a write failed, otherwise the format's refusal.
fn describe(refused: Refused, failed: &AtomicI32, place: &str, format: FileFormat) -> Error {
    let number = failed.load(Ordering::Relaxed);
    if number != 0 {
        return Error::io("write", place, io::Error::from_raw_os_error(number));
    }
    match refused {
        Refused::Arrow(e) => Error::Invalid(format!("{} cannot hold {place}: {e}", format.name())),
        Refused::Parquet(e) => {
            Error::Invalid(format!("{} cannot hold {place}: {e}", format.name()))
        }
        Refused::Io(e) => Error::io("write", place, e),
    }
}

/// The file, remembering why a write failed.
struct Out {
    file: File,
    failed: Arc<AtomicI32>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.failed.store(e.raw_os_error().unwrap_or(0), Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
