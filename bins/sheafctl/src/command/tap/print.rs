//! Prints rows as they come.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sheaf_retry::Retryable as _;
use sheaf_terminal::{Console, Destination, Error, Failure, OutputFormat, RowWriter};

use super::Format;
use super::live::LiveTable;

/// Standard output, for one writer after another.
#[derive(Clone)]
struct Output(Arc<Mutex<Box<dyn Write + Send>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Prints batches; one with another schema begins anew.
pub(super) struct Printer {
    format: Format,
    output: Output,
    table: LiveTable,
    writer: Option<(SchemaRef, RowWriter)>,
    rows: u64,
}

impl Printer {
    pub(super) fn new(format: Format, console: &mut Console) -> Self {
        let table = LiveTable::new(console.width());
        let output = Output(Arc::new(Mutex::new(console.take_data())));
        Printer { format, output, table, writer: None, rows: 0 }
    }

    /// How many were printed.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Prints the rows of a batch, up to `most` of all.
    pub(super) fn print(&mut self, batch: &RecordBatch, most: Option<u64>) -> Result<(), Failure> {
        let left = most.map_or(u64::MAX, |most| most.saturating_sub(self.rows));
        let rows = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
        let batch = batch.slice(0, rows);
        self.rows += rows as u64;
        match self.format {
            Format::Table => {
                let text = self.table.lines(&batch)?;
                let written = self.output.write_all(text.as_bytes());
                written.and_then(|()| self.output.flush()).map_err(|error| output(&error))
            }
            Format::Json => self.write(&batch, OutputFormat::Json),
            Format::Csv => self.write(&batch, OutputFormat::Csv),
        }
    }

    fn write(&mut self, batch: &RecordBatch, format: OutputFormat) -> Result<(), Failure> {
        let schema = batch.schema();
        if self.writer.as_ref().is_none_or(|(known, _)| known.fields() != schema.fields()) {
            if let Some((_, writer)) = self.writer.take() {
                writer.finish().map_err(|error| failed(&error))?;
            }
            let output = Box::new(self.output.clone());
            let writer = RowWriter::try_new(format, &schema, output, Destination::Pipe);
            self.writer = Some((schema, writer.map_err(|error| failed(&error))?));
        }
        if let Some((_, writer)) = &mut self.writer {
            writer.write(batch).map_err(|error| failed(&error))?;
        }
        self.output.flush().map_err(|error| output(&error))
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.writer {
            Some((_, writer)) => writer.finish().map(|_| ()).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }
}

fn failed(error: &Error) -> Failure {
    if error.is_closed_pipe() { Failure::closed_pipe() } else { Failure::from_error(error) }
}

fn output(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::closed_pipe(),
        _ => Failure::new(error.code(), "standard output cannot be written").because(error),
    }
}
