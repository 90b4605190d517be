//! From chunks of messages to rows of a stream.

pub(crate) mod dead;
mod schemas;

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use tokio::sync::mpsc;

use crate::consume::Chunk;
use crate::decode::{DecodedBatch, Decoder, Rejected};
use crate::error::Error;
use crate::messages::Messages;
use crate::persist::{Converted, Persister};
use crate::sink::TopicRows;
use crate::stream::{self, Part, Refused, TopicStream};
use crate::tracker::{SpanId, Tracker};

pub(crate) use self::schemas::Schemas;

/// Converts the chunks of one topic, one after the other, and reports each when
/// its rows and its dead letters are in their streams.
pub(crate) struct Converter {
    pub(crate) way: Way,
    /// Where it has the schemas from that messages name.
    pub(crate) schemas: Schemas,
    /// Elsewhere while it is at work.
    pub(crate) decoder: Option<Decoder>,
}

/// Where the messages of one topic go.
pub(crate) struct Way {
    pub(crate) stream: Arc<TopicStream>,
    /// Where messages go that are no rows.
    pub(crate) dead: Arc<TopicStream>,
    pub(crate) tracker: Arc<Tracker>,
    /// Where rows go besides, before their messages count as done.
    pub(crate) persister: Option<Persister>,
}

impl Converter {
    /// Goes on until no more can come, or the stream is over.
    pub(crate) async fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) {
        loop {
            let next = tokio::select! {
                next = chunks.recv() => next,
                // Whoever reads is to learn of it though no message comes.
                () = self.way.given_up() => return,
            };
            let Some(chunk) = next else { return };
            // Somebody else reads its partition by now.
            if !self.way.tracker.is_current(&chunk.span) {
                continue;
            }
            match self.convert(chunk).await {
                Ok(()) | Err(Error::Revoked) => {}
                Err(Error::StreamOver) => return,
                Err(error) => {
                    // Its offsets are not committed, nor any after them: a restart
                    // reads the messages again.
                    let topic = self.way.stream.topic();
                    tracing::error!(%error, %topic, "messages cannot be converted; reading stops");
                    return;
                }
            }
        }
    }

    async fn convert(&mut self, chunk: Chunk) -> Result<(), Error> {
        let way = &self.way;
        let decoder = self.decoder.take().ok_or(Error::TaskLost)?;
        let done = self.schemas.decode(decoder, chunk, &way.tracker).await?;
        let (decoder, Chunk { span, messages, end }, decoded) = done;
        self.decoder = Some(decoder);
        let decoded = decoded.ok_or(Error::Revoked)?;
        let rows = way.take_in(&span, &messages, end, decoded).await?;
        match &way.persister {
            None => way.tracker.done(&span),
            Some(persister) => {
                let (messages, is_last) = (Arc::new(messages), true);
                persister.write(Converted { span, rows, messages, is_last }).await?;
            }
        }
        Ok(())
    }
}

impl Way {
    /// Until the database takes nothing more.
    async fn given_up(&self) {
        match &self.persister {
            Some(persister) => persister.given_up().await,
            None => std::future::pending().await,
        }
    }

    /// Has the rows taken into their stream, and what is none into that of the dead
    /// letters; what is to be kept elsewhere too.
    async fn take_in(
        &self,
        span: &SpanId,
        messages: &Messages,
        end: i64,
        decoded: DecodedBatch,
    ) -> Result<TopicRows, Error> {
        let DecodedBatch { batch, schema_version, mut rejected } = decoded;
        let (stream, dead) = (&self.stream, &self.dead);
        let (partition, start) = (span.of().partition, messages.first_offset().unwrap_or(end));
        let is_wanted = || self.tracker.is_current(span);
        let metrics = stream.metrics();
        let of = span.of().clone();
        let mut kept = TopicRows { of, rows: None, dead_letters: None, end };
        if let Some(rows) = batch {
            metrics.batches.inc();
            metrics.processed.inc_by(rows.num_rows() as u64);
            let part = Part::new(partition, rows.clone(), schema_version, start..end);
            let too_large = append(stream, part, is_wanted).await?;
            kept.rows = Some(without(rows, &too_large)?).filter(|rows| rows.num_rows() > 0);
            let limit = stream.limit_bytes();
            rejected.extend(messages.iter().enumerate().filter_map(|(index, message)| {
                let is_one = too_large.contains(&message.offset());
                let error = format!("as a row it is larger than --buffer-limit ({limit} bytes)");
                is_one.then_some(Rejected { index, error })
            }));
            rejected.sort_by_key(|rejected| rejected.index);
        }
        if !rejected.is_empty() {
            metrics.dead_letters.inc_by(rejected.len() as u64);
            let most = dead::most_bytes(dead);
            let rows = dead::letters((stream.topic(), partition), messages, &rejected, most)?;
            kept.dead_letters = Some(rows.clone());
            let part = Part::new(partition, rows, dead::VERSION, start..end);
            let lost = append(dead, part, is_wanted).await?;
            if !lost.is_empty() {
                let topic = stream.topic();
                tracing::warn!(%topic, partition, offsets = ?lost, "dead letters without a place");
            }
        }
        Ok(kept)
    }
}

/// Has rows taken in, in pieces where they do not fit as a whole; the offsets of
/// those that are larger than the stream by themselves.
async fn append(
    stream: &Arc<TopicStream>,
    part: Part,
    is_wanted: impl Fn() -> bool,
) -> Result<Vec<i64>, Error> {
    let mut pieces = vec![part];
    let mut too_large = Vec::new();
    while let Some(part) = pieces.pop() {
        let (partition, version) = (part.partition, part.schema_version);
        let (offsets, rows) = (part.start..part.end, part.rows.clone());
        match stream.append(part, &is_wanted).await {
            Ok(()) => {}
            Err(Refused::Full(_)) if is_wanted() => return Err(Error::StreamOver),
            Err(Refused::Full(_)) => return Err(Error::Revoked),
            Err(Refused::TooLarge { .. }) if rows.num_rows() > 1 => {
                let half = rows.num_rows() / 2;
                let first = alone(&rows.slice(0, half))?;
                let second = alone(&rows.slice(half, rows.num_rows() - half))?;
                // One message may have several rows.
                let middle = offset_of(&second).unwrap_or(offsets.end);
                // Taken from the end.
                pieces.push(Part::new(partition, second, version, middle..offsets.end));
                pieces.push(Part::new(partition, first, version, offsets.start..middle));
            }
            Err(Refused::TooLarge { .. }) => too_large.extend(offset_of(&rows)),
        }
    }
    Ok(too_large)
}

/// Rows but for those of some offsets.
fn without(rows: RecordBatch, offsets: &[i64]) -> Result<RecordBatch, Error> {
    if offsets.is_empty() {
        return Ok(rows);
    }
    let Some(known) = stream::offsets(&rows) else { return Ok(rows) };
    let is_kept = known.iter().map(|at| at.map(|at| !offsets.contains(&at)));
    filter_record_batch(&rows, &is_kept.collect())
        .map_err(|source| Error::Arrow { operation: "leave rows out", source })
}

/// The offset of the first row.
fn offset_of(row: &RecordBatch) -> Option<i64> {
    stream::offsets(row)?.iter().next().flatten()
}

/// Rows with memory of their own. (To concatenate a single batch copies nothing.)
fn alone(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let failed = |source| Error::Arrow { operation: "cut rows into pieces", source };
    let all = UInt64Array::from_iter_values(0..rows.num_rows() as u64);
    take_record_batch(rows, &all).map_err(failed)
}
