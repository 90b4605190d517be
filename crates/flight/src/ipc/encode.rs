//! Record batches to messages.

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{
    DictionaryHandling, DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext,
    IpcWriteOptions,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_retry::Code;

use crate::error::Error;
use crate::handler::MessageStream;
use crate::message::Message;

/// How buffers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Turns record batches of one schema into the messages of one stream.
///
/// Dictionaries stay dictionaries: they are sent when they are first used, and
/// later only what is new in them, or anew where a batch brings another one.
/// Buffers begin at multiples of 64 bytes. Metadata of schema and fields is kept.
pub struct Encoder {
    schema: SchemaRef,
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    /// An encoder, and the schema message with which its stream begins.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a compression that this build lacks.
    pub fn try_new(schema: SchemaRef, compression: Compression) -> Result<(Self, Message), Error> {
        let kind = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        };
        let options = IpcWriteOptions::default()
            .with_dictionary_handling(DictionaryHandling::Delta)
            .try_with_compression(kind)
            .map_err(|error| encode_error(&error))?;
        let generator = IpcDataGenerator::default();
        let mut tracker = DictionaryTracker::new(false);
        let first =
            generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut tracker, &options);
        let context = IpcWriteContext::default();
        let encoder = Encoder { schema, generator, tracker, options, context };
        Ok((encoder, message(first)))
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
        let (dictionaries, data) = self
            .generator
            .encode(batch, &mut self.tracker, &self.options, &mut self.context)
            .map_err(|error| encode_error(&error))?;
        Ok(dictionaries.into_iter().chain([data]).map(message).collect())
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

/// A stream of messages of a stream of batches, encoded as they come.
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
        futures::stream::try_unfold((batches, encoder), |(mut batches, mut encoder)| async move {
            let Some(batch) = batches.next().await else { return Ok::<_, Error>(None) };
            let messages = encoder.encode(&batch?)?;
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

fn message(data: EncodedData) -> Message {
    Message::new(Bytes::from(data.ipc_message), Bytes::from(data.arrow_data))
}

fn encode_error(error: &ArrowError) -> Error {
    Error::new(Code::InvalidArgument, error.to_string())
}
