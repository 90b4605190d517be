//! Separated values.

use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_csv::reader::{Decoder, Format, ReaderBuilder};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::text;
use crate::error::{Error, io_cause};
use crate::format::Compression;

/// How one CSV file is read.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    pub(crate) path: PathBuf,
    pub(crate) compression: Compression,
    pub(crate) header: bool,
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
    pub(crate) max_record_bytes: u64,
}

impl Csv {
    fn format(&self) -> Format {
        Format::default()
            .with_header(self.header)
            .with_delimiter(self.delimiter)
            .with_quote(self.quote)
    }

    /// The schema that the first `rows` rows suggest. A column without any
    /// value in them is text: every later value can be held so.
    pub(crate) fn infer(&self, rows: usize) -> Result<Schema, Error> {
        let sample = self.max_record_bytes.saturating_mul(4);
        let reader = text::open(&self.path, self.compression)?.take(sample);
        let (schema, _) = self.format().infer_schema(reader, Some(rows)).map_err(|e| {
            let line = number_after(&e.to_string(), " line ");
            self.error(e, line)
        })?;
        let fields = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Null => Field::new(field.name(), DataType::Utf8, true),
            _ => field.as_ref().clone(),
        });
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    pub(crate) fn batches(&self, schema: &SchemaRef, rows: usize) -> Result<CsvBatches, Error> {
        let decoder = ReaderBuilder::new(Arc::clone(schema))
            .with_format(self.format())
            .with_header_validation(self.header)
            .with_batch_size(rows)
            .build_decoder();
        let reader = text::open(&self.path, self.compression)?;
        Ok(CsvBatches { csv: self.clone(), reader, decoder, done: false })
    }

    fn error(&self, error: ArrowError, line: Option<u64>) -> Error {
        if let Some(io) = io_cause(&error) {
            return super::read_error(&self.path, "CSV", io);
        }
        let path = self.path.display();
        let place = line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"));
        Error::malformed(place, "CSV of its schema", error)
    }

    /// Says where the decoder failed. It counts records and calls them lines:
    /// those with a wrong value from the first after the header, from 1 with a
    /// header and from 0 without; those of a wrong shape from the top, from 1.
    fn locate(&self, error: ArrowError) -> Error {
        let text = error.to_string();
        let record = number_after(&text, " at line ")
            .map(|number| number + 1)
            .or_else(|| number_after(&text, " for line "));
        let line = record.and_then(|record| self.line_of_record(record));
        self.error(error, line)
    }

    /// The line on which record `number` begins; both count from 1.
    fn line_of_record(&self, number: u64) -> Option<u64> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .quote(self.quote)
            .from_reader(text::open(&self.path, self.compression).ok()?);
        let mut record = csv::ByteRecord::new();
        for _ in 0..number {
            if !reader.read_byte_record(&mut record).ok()? {
                return None;
            }
        }
        record.position().map(csv::Position::line)
    }
}

/// The number that follows `words`.
fn number_after(message: &str, words: &str) -> Option<u64> {
    let (_, rest) = message.split_once(words)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The batches of a CSV file.
pub(crate) struct CsvBatches {
    csv: Csv,
    reader: Box<dyn BufRead + Send>,
    decoder: Decoder,
    done: bool,
}

impl CsvBatches {
    fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        let mut record_bytes = 0u64;
        loop {
            let before = self.decoder.capacity();
            let buffer = self.reader.fill_buf().map_err(|e| self.csv.locate(e.into()))?;
            let decoded = self.decoder.decode(buffer).map_err(|e| self.csv.locate(e))?;
            self.reader.consume(decoded);
            if decoded == 0 || self.decoder.capacity() == 0 {
                break;
            }
            record_bytes =
                if self.decoder.capacity() == before { record_bytes + decoded as u64 } else { 0 };
            if record_bytes > self.csv.max_record_bytes {
                return Err(Error::Limit {
                    what: format!("a record of {}", self.csv.path.display()),
                    actual: record_bytes,
                    limit: self.csv.max_record_bytes,
                    advice: "look for a quotation mark that is not closed",
                });
            }
        }
        self.decoder.flush().map_err(|e| self.csv.locate(e))
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.decode().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_the_messages_that_name_one() {
        let value = "value 'x' for column 1 at line 4. Row data";
        assert_eq!(number_after(value, " at line "), Some(4));
        let shape = "incorrect number of fields for line 12, expected 2";
        assert_eq!(number_after(shape, " line "), Some(12));
        assert_eq!(number_after(shape, " at line "), None);
        assert_eq!(number_after("for line x", " for line "), None);
    }
}
