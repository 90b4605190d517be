//! Record batches to messages.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::MessageHeader;
use arrow_ipc::writer::{
    DictionaryHandling, DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions,
    StreamEncoder,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_retry::Code;

use super::compression::Compression;
use super::inspect::own;
use crate::error::Error;
use crate::handler::MessageStream;
use crate::message::Message;

/// A body up to this size is put into one piece; buffers of larger ones stay
/// where they are.
const SMALL_BODY: usize = 64 << 10;

/// Turns record batches of one schema into the messages of one stream.
///
/// Dictionaries stay dictionaries: they are sent when they are first used, and
/// later only what is new in them, or anew where a batch brings another one.
/// Buffers begin at multiples of 64 bytes. Metadata of schema and fields is kept.
///
/// Large buffers of a body of more than 64 KiB are not copied: the message shares
/// them with its batch, a piece each, and small ones are put together. Compressed
/// ones are new.
pub struct Encoder {
    schema: SchemaRef,
    inner: StreamEncoder,
}

impl Encoder {
    /// An encoder, and the schema message with which its stream begins.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a compression that this build lacks, and
    /// for a type that the format cannot express.
    pub fn try_new(schema: SchemaRef, compression: Compression) -> Result<(Self, Message), Error> {
        let options = IpcWriteOptions::default()
            .with_dictionary_handling(DictionaryHandling::Delta)
            .try_with_compression(compression.kind())
            .map_err(|error| encode_error(&error))?;
        let first = encode_schema(&schema);
        let inner = StreamEncoder::try_new_with_options(&schema, options)
            .map_err(|error| encode_error(&error))?;
        Ok((Encoder { schema, inner }, first))
    }

    /// The messages of one batch: dictionaries that are new, then its record batch.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a batch of another schema, and for what
    /// the format cannot express: a dictionary whose values are a dictionary.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Message>, Error> {
        let same = batch.schema_ref().fields().len() == self.schema.fields().len()
            && batch.schema_ref().fields().iter().zip(self.schema.fields()).all(|(its, ours)| {
                its.name() == ours.name() && its.data_type() == ours.data_type()
            });
        if !same {
            return Err(crate::invalid(format!(
                "a batch of schema {:?} in a stream of {:?}",
                batch.schema_ref().fields(),
                self.schema.fields()
            )));
        }
        let buffers = self.inner.encode(batch).map_err(|error| encode_error(&error))?;
        let mut buffers = buffers.into_iter().filter(|buffer| !buffer.is_empty());
        let mut messages = Vec::new();
        while let Some((kind, message)) = next_message(&mut buffers)? {
            // It begins with the schema, which was sent before.
            if kind != MessageHeader::Schema {
                messages.push(message);
            }
        }
        Ok(messages)
    }
}

/// The next message of an encoded stream: its marker and length, the header as
/// one buffer, what pads that, and then the body.
fn next_message(
    buffers: &mut impl Iterator<Item = Buffer>,
) -> Result<Option<(MessageHeader, Message)>, Error> {
    let Some(marker) = buffers.next() else { return Ok(None) };
    let unexpected = || Error::new(Code::Internal, "arrow-ipc frames its messages in another way");
    let padded = marker.as_slice().get(4..8).and_then(|length| length.try_into().ok());
    let padded = u32::from_le_bytes(padded.ok_or_else(unexpected)?) as usize;
    let header = buffers.next().ok_or_else(unexpected)?;
    if header.len() < padded {
        let padding = buffers.next().ok_or_else(unexpected)?;
        if header.len() + padding.len() != padded {
            return Err(unexpected());
        }
    }
    let parsed = own(&header).ok_or_else(unexpected)?;
    let kind = parsed.header_type();
    let body_len = usize::try_from(parsed.bodyLength()).map_err(|_| unexpected())?;
    let mut pieces = Vec::new();
    let mut found = 0;
    while found < body_len {
        let piece = buffers.next().ok_or_else(unexpected)?;
        found += piece.len();
        pieces.push(piece);
    }
    if found != body_len {
        return Err(unexpected());
    }
    let header = Bytes::copy_from_slice(&header);
    let body = body(pieces, body_len);
    Ok(Some((kind, Message { header, body, app_metadata: Bytes::new() })))
}

/// A body of these buffers: small ones are put together with what follows.
fn body(pieces: Vec<Buffer>, size: usize) -> Vec<Bytes> {
    let mut body = Vec::new();
    let mut gathered = Vec::new();
    for piece in pieces {
        if size <= SMALL_BODY || piece.len() < SMALL_BODY / 8 {
            gathered.extend_from_slice(&piece);
            continue;
        }
        if !gathered.is_empty() {
            body.push(Bytes::from(std::mem::take(&mut gathered)));
        }
        body.push(Bytes::from_owner(Shared(piece)));
    }
    if !gathered.is_empty() {
        body.push(Bytes::from(gathered));
    }
    body
}

/// Owner of a buffer that a message shares with a batch.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The schema message of a stream; equal schemas give equal bytes.
pub fn encode_schema(schema: &Schema) -> Message {
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let generator = IpcDataGenerator::default();
    message(generator.schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options))
}

/// All messages of a stream of these batches; none is fine.
///
/// # Errors
/// As [`Encoder::encode`].
pub fn encode_batches(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Message>, Error> {
    let (mut encoder, first) = Encoder::try_new(schema, Compression::None)?;
    let mut messages = vec![first];
    for batch in batches {
        messages.extend(encoder.encode(batch)?);
    }
    Ok(messages)
}

/// A stream of messages of a stream of batches, encoded as they come. With
/// compression it must be read on a tokio runtime, whose threads for blocking
/// work compress.
///
/// # Errors
/// As [`Encoder::try_new`]; the stream yields those of [`Encoder::encode`].
pub fn encode_stream(
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
    compression: Compression,
) -> Result<MessageStream, Error> {
    let (encoder, first) = Encoder::try_new(schema, compression)?;
    let rest =
        futures::stream::try_unfold((batches, encoder), move |(mut batches, encoder)| async move {
            let Some(batch) = batches.next().await else { return Ok::<_, Error>(None) };
            let (messages, encoder) = encode_next(encoder, batch?, compression).await?;
            Ok(Some((messages, (batches, encoder))))
        });
    let rest = rest.flat_map(|result| {
        futures::stream::iter(match result {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    });
    Ok(futures::stream::once(async move { Ok(first) }).chain(rest).boxed())
}

/// Compressing takes long: that is done on a thread for it.
async fn encode_next(
    mut encoder: Encoder,
    batch: RecordBatch,
    compression: Compression,
) -> Result<(Vec<Message>, Encoder), Error> {
    if compression == Compression::None {
        return Ok((encoder.encode(&batch)?, encoder));
    }
    let work = move || encoder.encode(&batch).map(|messages| (messages, encoder));
    let gone = |_| Error::new(Code::Internal, "a thread that encodes ended without an answer");
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}

fn message(data: EncodedData) -> Message {
    Message::new(Bytes::from(data.ipc_message), Bytes::from(data.arrow_data))
}

fn encode_error(error: &ArrowError) -> Error {
    Error::new(Code::InvalidArgument, error.to_string())
}
