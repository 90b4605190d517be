//! Writing record batches in one of the output formats.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sheaf_retry::{Code, Retryable};

use crate::{OutputFormat, Table};

/// Most rows that the format `table` shows: a table is laid out as a whole, and
/// nobody reads more. Further rows are counted.
pub const MAX_TABLE_ROWS: usize = 1_000;

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The format has no place for a type.
    #[error(
        "column {column:?} of type {data_type} cannot be written as {format}; use json, parquet or arrow"
    )]
    Unsupported {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// The format.
        format: OutputFormat,
    },
    /// The format refused the rows.
    #[error("the rows cannot be written as {format}")]
    Encode {
        /// The format.
        format: OutputFormat,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The destination refused the bytes.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

impl Error {
    /// Whether the reader of the output has gone, which is no error to show.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Unsupported { .. } | Error::Encode { .. } => Code::InvalidArgument,
            Error::Output(source) => source.code(),
        }
    }
}

/// What kind of place the rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file, which is read as a whole.
    File,
    /// A pipe or anything else that is read from front to back.
    Pipe,
    /// A terminal of so many columns.
    Terminal(u16),
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows given to the writer.
    pub rows: u64,
    /// Of these, rows left out of a table that is long enough.
    pub hidden: u64,
    /// Columns left out of a table for want of room.
    pub hidden_columns: u64,
}

type Out = Watched;

/// Writes record batches of one schema in one format.
///
/// A writer that is dropped without [`RowWriter::finish`] leaves an incomplete
/// output behind; Parquet and Arrow readers refuse it.
pub struct RowWriter {
    format: OutputFormat,
    sink: Sink,
    failed: Failed,
    written: Written,
}

enum Sink {
    Table { table: Table, out: Out, width: Option<u16> },
    Csv(Box<arrow_csv::Writer<Out>>),
    Json(arrow_json::LineDelimitedWriter<Out>),
    Parquet(Box<ArrowWriter<Out>>),
    ArrowFile(Box<FileWriter<Out>>),
    ArrowStream(Box<StreamWriter<Out>>),
}

impl RowWriter {
    /// Begins an output.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where CSV has no form for a column's type,
    /// [`Error::Encode`] and [`Error::Output`] from writing the beginning.
    pub fn try_new(
        format: OutputFormat,
        schema: &SchemaRef,
        out: Box<dyn Write + Send>,
        destination: Destination,
    ) -> Result<Self, Error> {
        let failed = Failed::default();
        let out = Watched { out, failed: failed.clone() };
        let sort = |error| failed.sort(format, error);
        let sink = match format {
            OutputFormat::Table => {
                let headings = schema.fields().iter().map(|field| field.name().clone());
                let mut table = Table::default().trimmed();
                for (heading, field) in headings.zip(schema.fields()) {
                    let numeric = field.data_type().is_numeric();
                    table = if numeric { table.right(heading) } else { table.left(heading) };
                }
                let width = match destination {
                    Destination::Terminal(width) => Some(width),
                    Destination::File | Destination::Pipe => None,
                };
                Sink::Table { table, out, width }
            }
            OutputFormat::Csv => {
                if let Some(field) = schema.fields().iter().find(|f| f.data_type().is_nested()) {
                    return Err(Error::Unsupported {
                        column: field.name().clone(),
                        data_type: field.data_type().to_string(),
                        format,
                    });
                }
                let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(out);
                // Writes the header even if no row follows.
                writer.write(&RecordBatch::new_empty(schema.clone())).map_err(sort)?;
                Sink::Csv(Box::new(writer))
            }
            OutputFormat::Json => {
                let builder = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
                Sink::Json(builder.build(out))
            }
            OutputFormat::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Sink::Parquet(Box::new(writer.map_err(|error| failed.sort(format, error))?))
            }
            OutputFormat::Arrow if destination == Destination::File => {
                Sink::ArrowFile(Box::new(FileWriter::try_new(out, schema).map_err(sort)?))
            }
            OutputFormat::Arrow => {
                Sink::ArrowStream(Box::new(StreamWriter::try_new(out, schema).map_err(sort)?))
            }
        };
        Ok(RowWriter { format, sink, failed, written: Written::default() })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::Encode`] where the format has no form for them, [`Error::Output`].
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let (format, failed) = (self.format, self.failed.clone());
        let sort = |error| failed.sort(format, error);
        self.written.rows += rows.num_rows() as u64;
        match &mut self.sink {
            Sink::Table { table, .. } => {
                let room = MAX_TABLE_ROWS.saturating_sub(table.len()).min(rows.num_rows());
                self.written.hidden += (rows.num_rows() - room) as u64;
                add_rows(table, &rows.slice(0, room)).map_err(sort)
            }
            Sink::Csv(writer) => writer.write(rows).map_err(sort),
            Sink::Json(writer) => writer.write(rows).map_err(sort),
            Sink::Parquet(writer) => writer.write(rows).map_err(|error| failed.sort(format, error)),
            Sink::ArrowFile(writer) => writer.write(rows).map_err(sort),
            Sink::ArrowStream(writer) => writer.write(rows).map_err(sort),
        }
    }

    /// Ends the output and flushes it.
    ///
    /// # Errors
    /// As [`RowWriter::write`].
    pub fn finish(self) -> Result<Written, Error> {
        let (format, failed, mut written) = (self.format, self.failed, self.written);
        let sort = |error| failed.sort(format, error);
        let mut out: Out = match self.sink {
            Sink::Table { table, mut out, width } => {
                written.hidden_columns = table.hidden_columns(width) as u64;
                out.write_all(table.render(width).as_bytes()).map_err(Error::Output)?;
                out
            }
            Sink::Csv(writer) => (*writer).into_inner(),
            Sink::Json(mut writer) => {
                writer.finish().map_err(sort)?;
                writer.into_inner()
            }
            Sink::Parquet(writer) => {
                writer.into_inner().map_err(|error| failed.sort(format, error))?
            }
            Sink::ArrowFile(mut writer) => {
                writer.finish().map_err(sort)?;
                writer.into_inner().map_err(sort)?
            }
            Sink::ArrowStream(mut writer) => {
                writer.finish().map_err(sort)?;
                writer.into_inner().map_err(sort)?
            }
        };
        out.flush().map_err(Error::Output)?;
        Ok(written)
    }
}

fn add_rows(table: &mut Table, rows: &RecordBatch) -> Result<(), ArrowError> {
    let options = FormatOptions::default().with_null("").with_display_error(true);
    let columns = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    for row in 0..rows.num_rows() {
        table.row(columns.iter().map(|column| column.value(row).to_string()));
    }
    Ok(())
}

/// Remembers why the destination failed: the formats' own errors keep that as
/// a text at best.
struct Watched {
    out: Box<dyn Write + Send>,
    failed: Failed,
}

/// Where a [`Watched`] leaves its error.
#[derive(Clone, Default)]
struct Failed(Arc<Mutex<Option<io::Error>>>);

impl Failed {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            kind.into()
        })
    }

    /// An error of the destination as such, anything else as one of the format.
    fn sort(
        &self,
        format: OutputFormat,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(source) => Error::Output(source),
            None => Error::Encode { format, source: Box::new(error) },
        }
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.failed.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.failed.note(flushed)
    }
}
