//! Some columns or rows of a payload.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{Bounds, Compression, Decoded, Decoder, Encoder, Kind, inspect};
use sheaf_flight::{Message, MessageStream};

use super::read::Source;
use crate::error::Error;
use crate::options::ReadOptions;

struct Selection {
    source: Source,
    next: usize,
    /// Up to which number messages were read from the disk.
    loaded: usize,
    decoder: Decoder,
    encoder: Encoder,
    /// Rows yet to be left out.
    skip: u64,
    /// Rows yet to be sent.
    left: u64,
}

pub(super) fn select(
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
        source.load(next)?;
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
    let selection = Selection { source, next, loaded: next, decoder, encoder, skip, left };
    let rest = stream::try_unfold(selection, |mut selection| async move {
        let messages = selection.step()?;
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
    fn step(&mut self) -> Result<Option<Vec<Message>>, sheaf_flight::Error> {
        while self.left > 0 {
            if self.next >= self.loaded {
                self.loaded = self.source.load(self.next)?;
            }
            let Some(message) = self.source.get(self.next) else { return Ok(None) };
            self.next += 1;
            let outline = inspect(&message.header)?;
            if outline.kind == Kind::RecordBatch && outline.rows <= self.skip && self.skip > 0 {
                self.skip -= outline.rows;
                continue;
            }
            let Decoded::Batch(batch) = self.decoder.push(&message)? else { continue };
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
}
