//! Some columns or rows of a payload.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{
    Compression, Decoded, Decoder, Encoder, Kind, compression_of, inspect, unfolded_bytes,
};
use sheaf_flight::{Message, MessageStream};

use super::read::{Cursor, Source};
use super::{Inner, memory};
use crate::budget::Held;
use crate::error::Error;
use crate::kept::Kept;
use crate::options::ReadOptions;
use crate::turn;

struct Selection {
    inner: Arc<Inner>,
    /// Memory of dictionaries by their numbers, which the decoder keeps until
    /// they are replaced.
    kept: HashMap<i64, Held>,
    /// Memory of what was encoded last, and of what was before it.
    encoded: [Held; 2],
    cursor: Cursor,
    /// Elsewhere while a message is worked on.
    coder: Option<Coder>,
    compression: Compression,
    /// Rows yet to be left out.
    skip: u64,
    /// Rows yet to be sent.
    left: u64,
}

struct Coder {
    decoder: Decoder,
    encoder: Encoder,
}

pub(super) async fn select(
    inner: &Arc<Inner>,
    source: Source,
    options: &ReadOptions,
) -> Result<MessageStream, Error> {
    if options.columns.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Invalid("columns must name one column at least".to_owned()));
    }
    let Some(compression) = options.bodies.of_parts() else {
        let text = "as-put cannot be combined with columns, offset or limit";
        return Err(Error::Invalid(text.to_owned()));
    };
    let mut decoder = Decoder::new(inner.decode_bounds());
    let mut cursor = Cursor::new(source);
    let schema: SchemaRef = loop {
        // A stored payload has a schema: it was checked when it was put.
        let (_, Kept { message, .. }) = cursor.next().await?.ok_or(Error::TaskLost)?;
        if let Decoded::Schema(schema) = decoder.push(&message)? {
            break schema;
        }
    };
    let schema = match &options.columns {
        None => schema,
        Some(columns) => decoder.project(columns)?,
    };
    let (encoder, first) = Encoder::try_new(Arc::clone(&schema), compression)?;
    let held = || Held::new(&inner.unfolding);
    let selection = Selection {
        inner: Arc::clone(inner),
        kept: HashMap::new(),
        encoded: [held(), held()],
        cursor,
        coder: Some(Coder { decoder, encoder }),
        compression,
        skip: options.offset,
        left: options.limit.unwrap_or(u64::MAX),
    };
    let rest = stream::try_unfold(selection, Selection::step);
    let rest = rest.flat_map(|result| {
        stream::iter(match result {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error.into())],
        })
    });
    Ok(stream::once(async move { Ok(first) }).chain(rest).boxed())
}

impl Selection {
    /// The messages of the next record batch that has rows to send.
    async fn step(mut self) -> Result<Option<(Vec<Message>, Self)>, Error> {
        while self.left > 0 {
            let Some((_, Kept { message, .. })) = self.cursor.next().await? else {
                return Ok(None);
            };
            let outline = inspect(&message.header)?;
            let is_batch = outline.kind == Kind::RecordBatch;
            if is_batch && outline.rows <= self.skip && self.skip > 0 {
                self.skip -= outline.rows;
                continue;
            }
            let unfolded = unfolded_bytes(&message)?;
            // What is not compressed is decoded where it lies.
            let decoded = memory::unfold(&self.inner, unfolded).await?;
            if is_batch {
                self.encoded.swap(0, 1);
                self.encoded[0] = Held::new(&self.inner.unfolding);
                let bytes = unfolded.max(message.body_len() as u64);
                self.encoded[0] = memory::unfold(&self.inner, bytes).await?;
            }
            let Some((rows, messages)) = self.code(message, is_batch).await? else {
                self.keep(outline.kind, decoded);
                continue;
            };
            self.skip = 0;
            self.left -= rows;
            return Ok(Some((messages, self)));
        }
        Ok(None)
    }

    /// What a dictionary was decoded into; it replaces the one there was.
    fn keep(&mut self, kind: Kind, decoded: Held) {
        let Kind::Dictionary { id, is_delta } = kind else { return };
        match self.kept.entry(id) {
            Entry::Occupied(mut known) if is_delta => known.get_mut().absorb(decoded),
            Entry::Occupied(mut known) => *known.get_mut() = decoded,
            Entry::Vacant(free) => {
                free.insert(decoded);
            }
        }
    }

    /// Decodes a message and encodes what is wanted of it, on a thread for that
    /// where it takes compressing or decompressing; how many rows that are.
    async fn code(
        &mut self,
        message: Message,
        is_batch: bool,
    ) -> Result<Option<(u64, Vec<Message>)>, Error> {
        let is_shrunk = compression_of(&message.header)? != Compression::None;
        let is_heavy = is_shrunk || (is_batch && self.compression != Compression::None);
        let mut coder = self.coder.take().ok_or(Error::TaskLost)?;
        let (skip, left) = (self.skip, self.left);
        let work = move || {
            let made = coder.run(&message, skip, left);
            (coder, made)
        };
        let turns = &self.inner.turns;
        let (coder, made) = if is_heavy { turn::in_turn(turns, work).await? } else { work() };
        self.coder = Some(coder);
        Ok(made?)
    }
}

impl Coder {
    fn run(
        &mut self,
        message: &Message,
        skip: u64,
        left: u64,
    ) -> Result<Option<(u64, Vec<Message>)>, sheaf_flight::Error> {
        let Decoded::Batch(batch) = self.decoder.push(message)? else { return Ok(None) };
        // Both are less than the rows of one batch.
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(batch.num_rows());
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let rows = left.min(batch.num_rows() - skip);
        Ok(Some((rows as u64, self.encoder.encode(&batch.slice(skip, rows))?)))
    }
}
