//! Some columns or rows of a payload.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{
    Bounds, Compression, Decoded, Decoder, Encoder, Kind, inspect, unfolded_bytes,
};
use sheaf_flight::{Message, MessageStream};

use super::read::Source;
use super::{Inner, memory, room};
use crate::budget::Held;
use crate::error::Error;
use crate::options::ReadOptions;

/// How often what one message unfolds to may be in memory: decoded, encoded
/// anew, and that of the message before while it is on its way.
pub(super) const COPIES: u64 = 3;

struct Selection {
    inner: Arc<Inner>,
    /// Memory of dictionaries, which the decoder keeps.
    kept: Held,
    /// Memory of what was encoded last, and of what was before it.
    encoded: [Held; 2],
    source: Source,
    next: usize,
    decoder: Decoder,
    encoder: Encoder,
    /// Rows yet to be left out.
    skip: u64,
    /// Rows yet to be sent.
    left: u64,
}

pub(super) fn select(
    inner: &Arc<Inner>,
    source: Source,
    options: &ReadOptions,
    bounds: Bounds,
) -> Result<MessageStream, Error> {
    if options.columns.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Invalid("columns must name one column at least".to_owned()));
    }
    let mut decoder = Decoder::new(bounds);
    let mut next = 0;
    let schema: SchemaRef = loop {
        // A stored payload has a schema: it was checked when it was put.
        let message = source.get(next).ok_or(Error::TaskLost)?;
        next += 1;
        if let Decoded::Schema(schema) = decoder.push(&message)? {
            break schema;
        }
    };
    let schema = match &options.columns {
        None => schema,
        Some(columns) => decoder.project(columns)?,
    };
    let (encoder, first) = Encoder::try_new(Arc::clone(&schema), Compression::None)?;
    let (skip, left) = (options.offset, options.limit.unwrap_or(u64::MAX));
    let held = || Held::new(&inner.unfolding);
    let (inner, kept, encoded) = (Arc::clone(inner), held(), [held(), held()]);
    let selection = Selection { inner, kept, encoded, source, next, decoder, encoder, skip, left };
    let rest = stream::try_unfold(selection, |mut selection| async move {
        let messages = selection.step().await?;
        Ok::<_, sheaf_flight::Error>(messages.map(|messages| (messages, selection)))
    });
    let rest = rest.flat_map(|result| {
        stream::iter(match result {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    });
    Ok(stream::once(async move { Ok(first) }).chain(rest).boxed())
}

impl Selection {
    /// The messages of the next record batch that has rows to send.
    async fn step(&mut self) -> Result<Option<Vec<Message>>, sheaf_flight::Error> {
        while self.left > 0 {
            let Some(message) = self.source.get(self.next) else { return Ok(None) };
            self.next += 1;
            let outline = inspect(&message.header)?;
            if outline.kind == Kind::RecordBatch && outline.rows <= self.skip && self.skip > 0 {
                self.skip -= outline.rows;
                continue;
            }
            let unfolded = unfolded_bytes(&message)?;
            // What is not compressed is decoded where it lies.
            let decoded = self.hold(unfolded).await?;
            if outline.kind == Kind::RecordBatch {
                self.encoded.swap(0, 1);
                self.encoded[0] = Held::new(&self.inner.unfolding);
                self.encoded[0] = self.hold(unfolded.max(message.body_len() as u64)).await?;
            }
            let Decoded::Batch(batch) = self.decoder.push(&message)? else {
                self.kept.absorb(decoded);
                continue;
            };
            // Both are less than the rows of one batch.
            let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(batch.num_rows());
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let rows = left.min(batch.num_rows() - skip);
            self.skip = 0;
            self.left -= rows as u64;
            return self.encoder.encode(&batch.slice(skip, rows)).map(Some);
        }
        Ok(None)
    }

    /// Has memory counted. All reads together have a part of the whole: who does
    /// not read what was asked for keeps no put from its memory.
    async fn hold(&self, bytes: u64) -> Result<Held, crate::Error> {
        let unfolding = &self.inner.unfolding;
        // What is too much the decoder refuses, by a limit of its own.
        let bytes = bytes.min(unfolding.limit() / COPIES);
        let mut held = Held::new(unfolding);
        while let Err(full) = held.add_bytes(bytes) {
            let is_quota = unfolding.used() + bytes > unfolding.limit();
            if is_quota || !memory::make(&self.inner, bytes).await {
                return Err(room::refusal(full));
            }
        }
        Ok(held)
    }
}
