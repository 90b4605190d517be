//! JSON: objects one after another, or one array of objects.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::reader::{Decoder, ReaderBuilder, infer_json_schema_from_iterator};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use serde_json::Value;

use super::text::{self, Counted};
use crate::error::{Error, io_cause};
use crate::format::Compression;

/// How one JSON file is read.
#[derive(Clone, Debug)]
pub(crate) struct Json {
    pub(crate) path: PathBuf,
    pub(crate) compression: Compression,
    pub(crate) max_record_bytes: u64,
}

impl Json {
    /// The file as objects one after another: the brackets and commas of an
    /// outer array read as blanks, so that lines and columns stay.
    fn open(&self) -> Result<Box<dyn BufRead + Send>, Error> {
        let mut reader = text::open(&self.path, self.compression)?;
        loop {
            let buffer = reader
                .fill_buf()
                .map_err(|e| super::read_error(&self.path, "compressed text", &e))?;
            let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match buffer.get(blanks) {
                Some(b'[') => return Ok(Box::new(BufReader::new(Elements::new(reader)))),
                Some(_) => return Ok(reader),
                None if buffer.is_empty() => return Ok(reader),
                // Leading blank lines: rare, and lost to the line count.
                None => reader.consume(blanks),
            }
        }
    }

    /// The schema that the first `rows` objects suggest.
    pub(crate) fn infer(&self, rows: usize) -> Result<Schema, Error> {
        let (reader, count) = Counted::new(self.open()?, self.max_record_bytes);
        let values = serde_json::Deserializer::from_reader(reader).into_iter::<Value>();
        let mut broken = None;
        let sample = values.take(rows).map_while(|value| {
            count.reset();
            value.map_err(|e| broken = Some(e)).ok()
        });
        let schema = infer_json_schema_from_iterator(sample.map(Ok::<_, ArrowError>));
        match broken {
            Some(error) => Err(self.syntax(error)),
            None => schema.map_err(|e| {
                let place = format!("{}:{}", self.path.display(), count.line());
                Error::malformed(place, "JSON objects of one schema", e)
            }),
        }
    }

    pub(crate) fn batches(&self, schema: &SchemaRef, rows: usize) -> Result<JsonBatches, Error> {
        let decoder = self.decoder(schema, rows)?;
        let (json, schema) = (self.clone(), Arc::clone(schema));
        Ok(JsonBatches { json, schema, reader: self.open()?, decoder, done: false })
    }

    fn decoder(&self, schema: &SchemaRef, rows: usize) -> Result<Decoder, Error> {
        ReaderBuilder::new(Arc::clone(schema))
            .with_batch_size(rows)
            .build_decoder()
            .map_err(|e| Error::Invalid(format!("the schema of {}: {e}", self.path.display())))
    }

    fn syntax(&self, error: serde_json::Error) -> Error {
        if error.io_error_kind() == Some(io::ErrorKind::FileTooLarge) {
            return self.too_long();
        }
        let place = format!("{}:{}", self.path.display(), error.line());
        Error::malformed(place, "JSON", error)
    }

    fn too_long(&self) -> Error {
        Error::Limit {
            what: format!("a record of {}", self.path.display()),
            actual: self.max_record_bytes + 1,
            limit: self.max_record_bytes,
            advice: "look for a bracket or quotation mark that is not closed",
        }
    }

    /// Reads the file again, object by object, to say on which line `error`
    /// is: the decoder that met it does not know.
    fn locate(&self, schema: &SchemaRef, error: ArrowError) -> Error {
        if let Some(io) = io_cause(&error) {
            return super::read_error(&self.path, "JSON", io);
        }
        let unlocated = |error| Error::malformed(self.path.display().to_string(), "JSON", error);
        let Ok(reader) = self.open() else { return unlocated(error) };
        let (reader, count) = Counted::new(reader, self.max_record_bytes);
        let values = serde_json::Deserializer::from_reader(reader).into_iter::<Value>();
        for value in values {
            let value = match value {
                Ok(value) => value,
                Err(syntax) => return self.syntax(syntax),
            };
            count.reset();
            let refused = self.decoder(schema, 1).and_then(|mut decoder| {
                decoder
                    .serialize(&[value])
                    .and_then(|()| decoder.flush())
                    .map_err(|e| Error::malformed("", "JSON", e))
            });
            if let Err(Error::Malformed { source, .. }) = refused {
                let place = format!("{}:{}", self.path.display(), count.line());
                return Error::Malformed { place, format: "JSON of its schema", source };
            }
        }
        unlocated(error)
    }
}

/// The batches of a JSON file.
pub(crate) struct JsonBatches {
    json: Json,
    schema: SchemaRef,
    reader: Box<dyn BufRead + Send>,
    decoder: Decoder,
    done: bool,
}

impl JsonBatches {
    fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        let locate = |error| self.json.locate(&self.schema, error);
        let mut record_bytes = 0u64;
        loop {
            let before = self.decoder.len();
            let buffer = self.reader.fill_buf().map_err(|e| locate(e.into()))?;
            let given = buffer.len();
            if given == 0 {
                break;
            }
            let decoded = self.decoder.decode(buffer).map_err(locate)?;
            self.reader.consume(decoded);
            if decoded != given {
                break;
            }
            let grew = self.decoder.len() != before;
            record_bytes = if grew { 0 } else { record_bytes + decoded as u64 };
            if record_bytes > self.json.max_record_bytes {
                return Err(self.json.too_long());
            }
        }
        self.decoder.flush().map_err(locate)
    }
}

impl Iterator for JsonBatches {
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

/// Blanks out what holds the elements of an array together.
struct Elements<R> {
    inner: R,
    depth: u32,
    in_string: bool,
    escaped: bool,
    closed: bool,
}

impl<R> Elements<R> {
    fn new(inner: R) -> Self {
        Elements { inner, depth: 0, in_string: false, escaped: false, closed: false }
    }

    fn step(&mut self, byte: &mut u8) -> io::Result<()> {
        if self.closed && !byte.is_ascii_whitespace() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is more after the end of the array",
            ));
        }
        if self.in_string {
            self.in_string = self.escaped || *byte != b'"';
            self.escaped = !self.escaped && *byte == b'\\';
            return Ok(());
        }
        match *byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => {
                if self.depth == 0 {
                    *byte = b' ';
                }
                self.depth = self.depth.saturating_add(1);
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.closed = true;
                    *byte = b' ';
                }
            }
            b',' if self.depth == 1 => *byte = b' ',
            _ => {}
        }
        Ok(())
    }
}

impl<R: Read> Read for Elements<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.closed {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the array is not closed: the file ends early",
            ));
        }
        for byte in &mut buffer[..read] {
            self.step(byte)?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> io::Result<String> {
        let mut out = String::new();
        Elements::new(text.as_bytes()).read_to_string(&mut out)?;
        Ok(out)
    }

    #[test]
    fn an_array_becomes_its_elements_in_place() {
        assert_eq!(
            elements("[{\"a\":[1,2]},\n {\"b\":\"x],\\\"\"}]\n").unwrap(),
            " {\"a\":[1,2]} \n {\"b\":\"x],\\\"\"} \n"
        );
        assert_eq!(elements("[]").unwrap(), "  ");
    }

    #[test]
    fn a_cut_or_continued_array_is_an_error() {
        assert_eq!(elements("[{}").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(elements("[{}] x").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
