//! Some columns or rows of a payload.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{
    Bounds, Compression, Decoded, Decoder, Encoder, Kind, compression_of, inspect,
};
use sheaf_flight::{Message, MessageStream};
use tokio::sync::Semaphore;

use super::read::Source;
use super::recode;
use crate::error::Error;
use crate::kept::Kept;
use crate::options::ReadOptions;

struct Selection {
    source: Source,
    next: usize,
    /// Up to which number messages were read from the disk.
    loaded: usize,
    decoder: Decoder,
    encoder: Encoder,
    compression: Compression,
    /// Rows yet to be left out.
    skip: u64,
    /// Rows yet to be sent.
    left: u64,
}

pub(super) fn select(
    source: Source,
    options: &ReadOptions,
    bounds: Bounds,
    turns: Arc<Semaphore>,
) -> Result<MessageStream, Error> {
    if options.columns.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Invalid("columns must name one column at least".to_owned()));
    }
    let Some(compression) = options.bodies.of_parts() else {
        let text = "as-put cannot be combined with columns, offset or limit";
        return Err(Error::Invalid(text.to_owned()));
    };
    let mut decoder = Decoder::new(bounds);
    let mut next = 0;
    let schema: SchemaRef = loop {
        // A stored payload has a schema: it was checked when it was put.
        source.load(next)?;
        let message = source.get(next).ok_or(Error::TaskLost)?.message;
        next += 1;
        if let Decoded::Schema(schema) = decoder.push(&message)? {
            break schema;
        }
    };
    let schema = match &options.columns {
        None => schema,
        Some(columns) => decoder.project(columns)?,
    };
    let (encoder, first) = Encoder::try_new(Arc::clone(&schema), compression)?;
    let (skip, left) = (options.offset, options.limit.unwrap_or(u64::MAX));
    let loaded = next;
    let selection = Selection { source, next, loaded, decoder, encoder, compression, skip, left };
    let rest = stream::try_unfold((selection, turns), |(selection, turns)| async move {
        let (messages, selection) = next_of(selection, &turns).await?;
        Ok::<_, sheaf_flight::Error>(messages.map(|messages| (messages, (selection, turns))))
    });
    let rest = rest.flat_map(|result| {
        stream::iter(match result {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    });
    Ok(stream::once(async move { Ok(first) }).chain(rest).boxed())
}

/// The next messages, made on a thread for that where it takes compressing or
/// decompressing.
async fn next_of(
    mut selection: Selection,
    turns: &Arc<Semaphore>,
) -> Result<(Option<Vec<Message>>, Selection), Error> {
    let is_heavy = selection.is_heavy()?;
    let work = move || {
        let messages = selection.step();
        (messages, selection)
    };
    let (messages, selection) = if is_heavy { recode::in_turn(turns, work).await? } else { work() };
    Ok((messages?, selection))
}

impl Selection {
    /// Whether the next record batch takes compressing, or it or a dictionary
    /// before it decompressing.
    fn is_heavy(&mut self) -> Result<bool, sheaf_flight::Error> {
        if self.compression != Compression::None {
            return Ok(true);
        }
        for number in self.next.. {
            let Some(kept) = self.look(number)? else { break };
            let header = &kept.message.header;
            if compression_of(header)? != Compression::None {
                return Ok(true);
            }
            if inspect(header)?.kind == Kind::RecordBatch {
                break;
            }
        }
        Ok(false)
    }

    /// A message that can be touched.
    fn look(&mut self, number: usize) -> Result<Option<Kept>, Error> {
        if number >= self.loaded {
            self.loaded = self.source.load(number)?;
        }
        Ok(self.source.get(number))
    }

    /// The messages of the next record batch that has rows to send.
    fn step(&mut self) -> Result<Option<Vec<Message>>, sheaf_flight::Error> {
        while self.left > 0 {
            let Some(Kept { message, .. }) = self.look(self.next)? else { return Ok(None) };
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
