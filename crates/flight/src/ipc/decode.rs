//! Messages to record batches.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_ipc::Endianness;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_retry::Code;

use super::inspect::{Kind, limit, malformed, parse};
use super::{Bounds, StreamValidator};
use crate::error::Error;
use crate::handler::MessageStream;
use crate::message::Message;

/// What a message turned out to be.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// The schema of the stream.
    Schema(SchemaRef),
    /// Values of a dictionary: kept by the decoder.
    Dictionary,
    /// A record batch.
    Batch(RecordBatch),
    /// Application metadata without Arrow data.
    Metadata,
}

/// Turns the messages of one stream into record batches.
///
/// Every message passes a [`StreamValidator`] first, and every array the full
/// validation of arrow-rs: offsets inside their data, text that is UTF-8,
/// indices inside their dictionary. Buffers stay where they are in memory; one
/// that does not lie as its type needs it is copied.
#[derive(Debug, Default)]
pub struct Decoder {
    validator: StreamValidator,
    bounds: Bounds,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Bytes that each dictionary keeps, and their sum.
    kept: HashMap<i64, u64>,
    kept_bytes: u64,
    projection: Option<Vec<usize>>,
}

impl Decoder {
    /// A decoder of one stream.
    pub fn new(bounds: Bounds) -> Self {
        let validator = StreamValidator::new(bounds.clone());
        Decoder { validator, bounds, ..Decoder::default() }
    }

    /// Decodes only these columns from now on, in this order.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a column that the schema, which must have
    /// been pushed before, does not have.
    pub fn project(&mut self, columns: &[String]) -> Result<SchemaRef, Error> {
        let schema = self.schema.as_ref().ok_or_else(|| malformed("no schema yet"))?;
        let indices = columns
            .iter()
            .map(|name| {
                schema.index_of(name).map_err(|_| {
                    let known: Vec<_> =
                        schema.fields().iter().take(20).map(|field| field.name()).collect();
                    crate::invalid(format!("no column {name:?}; there are {known:?}"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let projected = schema.project(&indices).map_err(|error| arrow_error(&error))?;
        self.projection = Some(indices);
        Ok(Arc::new(projected))
    }

    /// The schema of the stream, all columns of it, once it was pushed.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// [`Code::MalformedData`] and [`Code::LimitExceeded`] as of the validator,
    /// and for values that are not what their type allows;
    /// [`Code::Unimplemented`] for what arrow-rs cannot read: big-endian
    /// streams and types that it does not know.
    pub fn push(&mut self, message: &Message) -> Result<Decoded, Error> {
        let number = self.validator.messages();
        let outline = self.validator.check(message)?;
        // arrow-rs checks what it reads; where it misses something it panics
        // rather than reading outside its buffers, and that ends here.
        let attempt = catch_unwind(AssertUnwindSafe(|| match outline.kind {
            Kind::Metadata => Ok(Decoded::Metadata),
            Kind::Schema => self.read_schema(message),
            Kind::Dictionary { id, is_delta } => self.read_dictionary(message, id, is_delta),
            Kind::RecordBatch => self.read_batch(message),
        }));
        let result = attempt.unwrap_or_else(|_| Err(malformed("its arrays contradict each other")));
        result.map_err(|error| {
            use sheaf_retry::Retryable as _;
            Error::new(error.code(), format!("message {number}: {}", error.message()))
        })
    }

    fn read_schema(&mut self, message: &Message) -> Result<Decoded, Error> {
        let schema = Arc::new(schema_with(&message.header, &self.bounds)?);
        self.schema = Some(Arc::clone(&schema));
        Ok(Decoded::Schema(schema))
    }

    fn read_dictionary(
        &mut self,
        message: &Message,
        id: i64,
        is_delta: bool,
    ) -> Result<Decoded, Error> {
        let parsed = parse(&message.header, &self.bounds)?;
        let schema = self.schema.as_ref().ok_or_else(|| malformed("data before the schema"))?;
        let batch = parsed.header_as_dictionary_batch();
        let batch = batch.ok_or_else(|| malformed("no dictionary in it"))?;
        let body = Buffer::from(message.contiguous_body());
        read_dictionary(&body, batch, schema, &mut self.dictionaries, &parsed.version())
            .map_err(|error| arrow_error(&error))?;
        let values = self.dictionaries.get(&id).map_or(0, |values| bytes_of(&values.to_data()));
        // More values are copied together with those before; others lie in the
        // body of their message, which stays as a whole.
        let body = if is_delta { 0 } else { message.body_len() as u64 };
        let bytes = values.max(body);
        let before = self.kept.insert(id, bytes).unwrap_or(0);
        self.kept_bytes = self.kept_bytes.saturating_sub(before).saturating_add(bytes);
        let (kept, max) = (self.kept_bytes, self.bounds.max_decoded_bytes);
        if kept > max {
            return Err(limit(format!("the dictionaries have {kept} bytes, the limit is {max}")));
        }
        Ok(Decoded::Dictionary)
    }

    fn read_batch(&mut self, message: &Message) -> Result<Decoded, Error> {
        let parsed = parse(&message.header, &self.bounds)?;
        let schema = self.schema.as_ref().ok_or_else(|| malformed("data before the schema"))?;
        let batch = parsed.header_as_record_batch();
        let batch = batch.ok_or_else(|| malformed("no record batch in it"))?;
        let body = Buffer::from(message.contiguous_body());
        let version = parsed.version();
        let schema = Arc::clone(schema);
        let batch = RecordBatchDecoder::try_new(&body, batch, schema, &self.dictionaries, &version)
            .map(|decoder| decoder.with_projection(self.projection.as_deref()))
            .and_then(RecordBatchDecoder::read_record_batch)
            .map_err(|error| arrow_error(&error))?;
        Ok(Decoded::Batch(batch))
    }
}

/// Bytes of all buffers of an array.
fn bytes_of(data: &ArrayData) -> u64 {
    let own: usize = data.buffers().iter().map(Buffer::len).sum();
    let nulls = data.nulls().map_or(0, |nulls| nulls.buffer().len());
    let children = data.child_data().iter().map(bytes_of).fold(0, u64::saturating_add);
    ((own + nulls) as u64).saturating_add(children)
}

/// The schema in a schema message.
///
/// # Errors
/// As [`Decoder::push`].
pub fn decode_schema(header: &[u8]) -> Result<Schema, Error> {
    schema_with(header, &Bounds::default())
}

fn schema_with(header: &[u8], bounds: &Bounds) -> Result<Schema, Error> {
    let parsed = parse(header, bounds)?;
    let schema = parsed.header_as_schema().ok_or_else(|| malformed("no schema in it"))?;
    if schema.endianness() != Endianness::Little {
        return Err(Error::new(Code::Unimplemented, "big-endian data cannot be decoded"));
    }
    // It panics at a few schemas that the format allows, such as a union of
    // more than 128 members.
    match catch_unwind(AssertUnwindSafe(|| try_fb_to_schema(schema))) {
        Ok(read) => read.map_err(|error| {
            Error::new(Code::Unimplemented, format!("schema not readable: {error}"))
        }),
        Err(_) => {
            Err(Error::new(Code::Unimplemented, "schema not readable: arrow-rs panics at it"))
        }
    }
}

/// A whole stream: its schema, and its record batches as they come.
///
/// # Errors
/// What the stream or its first message fails with; a stream without a schema
/// is [`Code::MalformedData`].
pub async fn decode_stream(
    mut messages: MessageStream,
    bounds: Bounds,
) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Error>>), Error> {
    let mut decoder = Decoder::new(bounds);
    let schema = loop {
        match messages.next().await {
            None => return Err(malformed("the stream ended before its schema")),
            Some(message) => {
                if let Decoded::Schema(schema) = decoder.push(&message?)? {
                    break schema;
                }
            }
        }
    };
    let batches = futures::stream::try_unfold(
        (messages, decoder),
        |(mut messages, mut decoder)| async move {
            while let Some(message) = messages.next().await {
                if let Decoded::Batch(batch) = decoder.push(&message?)? {
                    return Ok(Some((batch, (messages, decoder))));
                }
            }
            Ok(None)
        },
    );
    Ok((schema, batches.boxed()))
}

fn arrow_error(error: &ArrowError) -> Error {
    let code = match error {
        ArrowError::NotYetImplemented(_) => Code::Unimplemented,
        _ => Code::MalformedData,
    };
    Error::new(code, error.to_string())
}
