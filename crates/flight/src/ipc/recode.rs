//! Messages in another compression, without decoding their arrays.

use std::ops::Range;

use arrow_ipc::{
    BodyCompression, BodyCompressionArgs, BodyCompressionMethod, Buffer, DictionaryBatchArgs,
    FieldNode, KeyValue, KeyValueArgs, MessageArgs, MessageHeader, MetadataVersion,
    RecordBatchArgs,
};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;

use super::Bounds;
use super::compression::{Codecs, Compression};
use super::inspect::{limit, malformed, parse};
use crate::error::Error;
use crate::message::Message;

/// Before each compressed buffer: its length, or -1 where it is not compressed
/// after all.
const PREFIX: usize = 8;
const NOT_COMPRESSED: i64 = -1;

/// Compressed buffers begin at multiples of this, others of the second.
const ALIGN_COMPRESSED: usize = 8;
const ALIGN: usize = 64;

/// Headers of more than that are left as they are: a new one could not be built
/// in the 2 GiB that a flatbuffer may have.
const MAX_HEADER: usize = 256 << 20;

/// In which codec the body of a message is; `None` as well for one without
/// buffers, such as a schema.
///
/// # Errors
/// [`MalformedData`](sheaf_retry::Code::MalformedData) where it is no valid
/// header, or its codec is unknown.
pub fn compression_of(header: &[u8]) -> Result<Compression, Error> {
    if header.is_empty() {
        return Ok(Compression::None);
    }
    let parsed = parse(header, &Bounds::default())?;
    batch_of(&parsed).map_or(Ok(Compression::None), Compression::of)
}

/// Compresses and decompresses the bodies of messages, buffer by buffer.
///
/// Nothing else of a message changes: its rows, its metadata and its arrays are
/// those they were. Needs as much memory as the message that it makes, and at
/// most once more the largest buffer; computes for as long as that takes, so
/// large messages are nothing for a thread that others wait on.
#[derive(Default)]
pub struct Recoder {
    codecs: Codecs,
    bounds: Bounds,
}

impl std::fmt::Debug for Recoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recoder").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Recoder {
    /// Refuses messages that unfold to more than `bounds` allow.
    pub fn new(bounds: Bounds) -> Self {
        Recoder { bounds, ..Recoder::default() }
    }

    /// The message with its body in the codec `to`. A buffer that would not be
    /// shorter is marked as not compressed, as the format has it; a body that
    /// would not be shorter stays as it is, as does one that is in `to` already.
    ///
    /// # Errors
    /// [`MalformedData`](sheaf_retry::Code::MalformedData) where buffers lie
    /// outside the body or upon each other, or do not decompress;
    /// [`LimitExceeded`](sheaf_retry::Code::LimitExceeded) where they unfold to
    /// more than the bounds allow.
    pub fn recode(&mut self, message: &Message, to: Compression) -> Result<Message, Error> {
        let is_in = self.compression(message)?;
        if is_in == to {
            return Ok(message.clone());
        }
        let plain = match is_in {
            Compression::None => message.clone(),
            _ => self.decompress(message)?,
        };
        match to {
            Compression::None => Ok(plain),
            _ => Ok(self.compress(&plain, to)?.unwrap_or(plain)),
        }
    }

    /// The message compressed, where that can be undone by [`Recoder::restore`]
    /// byte for byte, and both headers and the body together are shorter than
    /// the message was; otherwise `None`.
    ///
    /// # Errors
    /// As [`Recoder::recode`].
    pub fn shrink(&mut self, message: &Message, to: Compression) -> Result<Option<Message>, Error> {
        if to == Compression::None
            || message.body.is_empty()
            || message.header.is_empty()
            // It could not be restored.
            || self.check_decoded(message.body_len()).is_err()
            || self.compression(message)? != Compression::None
            || !self.is_restorable(message)?
        {
            return Ok(None);
        }
        let smaller = self.compress(message, to)?;
        let before = message.header.len() + message.body_len();
        Ok(smaller.filter(|new| new.header.len() * 2 + new.body_len() < before))
    }

    /// The message that [`Recoder::shrink`] made `stored` of, which had the
    /// header `header`.
    ///
    /// # Errors
    /// [`MalformedData`](sheaf_retry::Code::MalformedData) where the two do not
    /// belong together.
    pub fn restore(&mut self, stored: &Message, header: &Bytes) -> Result<Message, Error> {
        let body = stored.contiguous_body();
        let parsed = parse(&stored.header, &self.bounds)?;
        let batch = batch_of(&parsed).ok_or_else(|| malformed("no buffers in it"))?;
        let before = parse(header, &self.bounds)?;
        let size = usize::try_from(before.bodyLength()).unwrap_or(usize::MAX);
        self.check_decoded(size)?;
        let before = batch_of(&before).ok_or_else(|| malformed("no buffers in it"))?;
        let places = spans(before, size)?;
        let body =
            self.unfold(Compression::of(batch)?, &spans(batch, body.len())?, &body, &places, size)?;
        Ok(Message {
            app_metadata: stored.app_metadata.clone(),
            ..Message::new(header.clone(), Bytes::from(body))
        })
    }

    /// The codec of a message whose buffers can be looked at.
    fn compression(&self, message: &Message) -> Result<Compression, Error> {
        if message.header.is_empty() {
            return Ok(Compression::None);
        }
        let parsed = parse(&message.header, &self.bounds)?;
        batch_of(&parsed).map_or(Ok(Compression::None), Compression::of)
    }

    /// Whether the body is its buffers, one after the other, and nothing but
    /// zeros between them: then they are all that has to be kept of it.
    fn is_restorable(&self, message: &Message) -> Result<bool, Error> {
        let parsed = parse(&message.header, &self.bounds)?;
        let Some(batch) = batch_of(&parsed) else { return Ok(false) };
        let body = message.contiguous_body();
        // Before V5 the format had no place for the codec.
        if parsed.version() < MetadataVersion::V5 || spans(batch, body.len()).is_err() {
            return Ok(false);
        }
        let mut at = 0;
        for span in spans(batch, body.len())?.into_iter().filter(|span| !span.is_empty()) {
            if span.start < at || body[at..span.start].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at = span.end;
        }
        Ok(body[at..].iter().all(|byte| *byte == 0))
    }

    /// `None` where it would not be shorter.
    fn compress(&mut self, message: &Message, to: Compression) -> Result<Option<Message>, Error> {
        if message.body.is_empty() {
            return Ok(None);
        }
        let parsed = parse(&message.header, &self.bounds)?;
        let Some(batch) = batch_of(&parsed) else { return Ok(None) };
        let body = message.contiguous_body();
        if parsed.version() < MetadataVersion::V5 || message.header.len() > MAX_HEADER {
            return Ok(None);
        }
        let (mut output, mut buffers) = (Vec::new(), Vec::new());
        for span in spans(batch, body.len())? {
            let start = output.len();
            self.compress_buffer(to, &body[span], &mut output)?;
            buffers.push(Buffer::new(start as i64, (output.len() - start) as i64));
            output.resize(output.len().next_multiple_of(ALIGN_COMPRESSED), 0);
            if output.len() >= body.len() {
                return Ok(None);
            }
        }
        let header = header(&parsed, batch, &buffers, to, output.len())?;
        Ok(Some(with(message, header, output)))
    }

    fn compress_buffer(
        &mut self,
        to: Compression,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if input.is_empty() {
            return Ok(());
        }
        let start = output.len();
        output.extend_from_slice(&(input.len() as i64).to_le_bytes());
        self.codecs.compress(to, input, output)?;
        if output.len() - start >= PREFIX + input.len() {
            output.truncate(start);
            output.extend_from_slice(&NOT_COMPRESSED.to_le_bytes());
            output.extend_from_slice(input);
        }
        Ok(())
    }

    fn decompress(&mut self, message: &Message) -> Result<Message, Error> {
        let parsed = parse(&message.header, &self.bounds)?;
        let batch = batch_of(&parsed).ok_or_else(|| malformed("no buffers in it"))?;
        if message.header.len() > MAX_HEADER {
            let (has, max) = (message.header.len(), MAX_HEADER);
            return Err(limit(format!(
                "a header of {has} bytes, the limit for decompressing is {max}"
            )));
        }
        let body = message.contiguous_body();
        let spans = spans(batch, body.len())?;
        let (mut places, mut size) = (Vec::with_capacity(spans.len()), 0_usize);
        for span in &spans {
            let length = unfolded(&body[span.clone()])?;
            let end = size.saturating_add(length);
            places.push(size..end);
            size = end.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
            self.check_decoded(end)?;
        }
        let buffers: Vec<_> = places
            .iter()
            .map(|place| Buffer::new(place.start as i64, place.len() as i64))
            .collect();
        let output = self.unfold(Compression::of(batch)?, &spans, &body, &places, size)?;
        let header = header(&parsed, batch, &buffers, Compression::None, output.len())?;
        Ok(with(message, header, output))
    }

    fn check_decoded(&self, bytes: usize) -> Result<(), Error> {
        let max = self.bounds.max_decoded_bytes;
        if bytes as u64 > max {
            return Err(limit(format!("buffers unfold to {bytes} bytes, the limit is {max}")));
        }
        Ok(())
    }

    /// A body of `size` bytes with each buffer of `body` at its place.
    fn unfold(
        &mut self,
        codec: Compression,
        spans: &[Range<usize>],
        body: &[u8],
        places: &[Range<usize>],
        size: usize,
    ) -> Result<Vec<u8>, Error> {
        if spans.len() != places.len() {
            let (has, wants) = (spans.len(), places.len());
            return Err(malformed(format!("{has} buffers, not {wants}")));
        }
        let mut output = vec![0; size];
        for (number, (span, place)) in spans.iter().zip(places).enumerate() {
            self.unfold_one(codec, &body[span.clone()], &mut output[place.clone()]).map_err(
                |error| {
                    use sheaf_retry::Retryable as _;
                    Error::new(error.code(), format!("buffer {number}: {}", error.message()))
                },
            )?;
        }
        Ok(output)
    }

    fn unfold_one(
        &mut self,
        codec: Compression,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), Error> {
        let (has, wants) = (unfolded(input)?, output.len());
        if has != wants {
            return Err(malformed(format!("it unfolds to {has} bytes, not {wants}")));
        }
        match input.split_first_chunk::<PREFIX>() {
            None => Ok(()),
            Some(_) if wants == 0 => Ok(()),
            Some((prefix, rest)) if i64::from_le_bytes(*prefix) == NOT_COMPRESSED => {
                output.copy_from_slice(rest);
                Ok(())
            }
            Some((_, rest)) => self.codecs.decompress(codec, rest, output),
        }
    }
}

/// What a compressed buffer says that it unfolds to.
fn unfolded(buffer: &[u8]) -> Result<usize, Error> {
    if buffer.is_empty() {
        return Ok(0);
    }
    let told = buffer.first_chunk::<PREFIX>().map(|prefix| i64::from_le_bytes(*prefix));
    match told {
        Some(NOT_COMPRESSED) => Ok(buffer.len() - PREFIX),
        Some(told) if told >= 0 => Ok(usize::try_from(told).unwrap_or(usize::MAX)),
        _ => Err(malformed("a compressed buffer does not tell its length")),
    }
}

fn batch_of<'a>(message: &arrow_ipc::Message<'a>) -> Option<arrow_ipc::RecordBatch<'a>> {
    match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch()?.data(),
        _ => None,
    }
}

/// Where the buffers lie, which together have no more bytes than the body: else
/// a few bytes could be compressed, or read, any number of times.
fn spans(batch: arrow_ipc::RecordBatch<'_>, body: usize) -> Result<Vec<Range<usize>>, Error> {
    let mut sum = 0_usize;
    let spans = batch.buffers().into_iter().flatten().enumerate().map(|(number, buffer)| {
        let start = usize::try_from(buffer.offset()).ok();
        let length = usize::try_from(buffer.length()).ok();
        let span =
            start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let span = span.filter(|span| span.end <= body).ok_or_else(|| {
            let (at, has) = (buffer.offset(), buffer.length());
            malformed(format!(
                "buffer {number} is at {at} with {has} bytes, outside the body of {body}"
            ))
        })?;
        sum = sum.saturating_add(span.len());
        if sum > body {
            return Err(malformed(format!(
                "buffers lie upon each other in the body of {body} bytes"
            )));
        }
        Ok(span)
    });
    spans.collect()
}

fn with(message: &Message, header: Bytes, body: Vec<u8>) -> Message {
    let app_metadata = message.app_metadata.clone();
    // Boxed first: what was reserved and is not used would stay in memory.
    Message { app_metadata, ..Message::new(header, Bytes::from(body.into_boxed_slice())) }
}

/// The header of `of` for another body.
fn header(
    of: &arrow_ipc::Message<'_>,
    batch: arrow_ipc::RecordBatch<'_>,
    buffers: &[Buffer],
    compression: Compression,
    body: usize,
) -> Result<Bytes, Error> {
    let mut builder = FlatBufferBuilder::new();
    let nodes: Vec<FieldNode> = batch.nodes().into_iter().flatten().copied().collect();
    let nodes = Some(builder.create_vector(&nodes));
    let buffers = Some(builder.create_vector(buffers));
    let counts = batch.variadicBufferCounts().map(|counts| counts.iter().collect::<Vec<i64>>());
    let counts = counts.map(|counts| builder.create_vector(&counts));
    let compression = compression.kind().map(|codec| {
        let method = BodyCompressionMethod::BUFFER;
        BodyCompression::create(&mut builder, &BodyCompressionArgs { codec, method })
    });
    let length = batch.length();
    let args =
        RecordBatchArgs { length, nodes, buffers, compression, variadicBufferCounts: counts };
    let data = arrow_ipc::RecordBatch::create(&mut builder, &args);
    let dictionary = of.header_as_dictionary_batch().map(|dictionary| DictionaryBatchArgs {
        id: dictionary.id(),
        data: Some(data),
        isDelta: dictionary.isDelta(),
    });
    let inner = match dictionary {
        None => data.as_union_value(),
        Some(args) => arrow_ipc::DictionaryBatch::create(&mut builder, &args).as_union_value(),
    };
    let metadata = of.custom_metadata().map(|entries| {
        let entries: Vec<_> = entries.iter().map(|entry| key_value(&mut builder, entry)).collect();
        builder.create_vector(&entries)
    });
    let args = MessageArgs {
        version: of.version(),
        header_type: of.header_type(),
        header: Some(inner),
        bodyLength: i64::try_from(body).map_err(|_| limit("a body of 8 EiB"))?,
        custom_metadata: metadata,
    };
    let root = arrow_ipc::Message::create(&mut builder, &args);
    builder.finish(root, None);
    Ok(Bytes::copy_from_slice(builder.finished_data()))
}

fn key_value<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    entry: KeyValue<'_>,
) -> flatbuffers::WIPOffset<KeyValue<'b>> {
    let key = entry.key().map(|key| builder.create_string(key));
    let value = entry.value().map(|value| builder.create_string(value));
    KeyValue::create(builder, &KeyValueArgs { key, value })
}
