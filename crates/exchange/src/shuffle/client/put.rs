//! One segment of an attempt, sent until it is taken.

use futures::{StreamExt as _, stream};
use sheaf_flight::{CallOptions, Message};

use super::{ExchangeClient, Shared};
use crate::shuffle::chunk::crc32c_of;
use crate::shuffle::engine::Exchange;
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Sender, Totals};
use crate::shuffle::wire::fragments::cut;
use crate::shuffle::wire::{Commit, NAMESPACE, PutAnswer, Sent, headers, hexadecimal, json, parse};

/// Chunks that follow each other, and the commit where they are the last.
pub(super) struct Segment {
    pub(super) peer: String,
    pub(super) key: PartitionKey,
    pub(super) sender: Sender,
    pub(super) schema: Message,
    /// The sequence of the first chunk.
    pub(super) first: u64,
    pub(super) chunks: Vec<Message>,
    pub(super) commit: Option<Totals>,
}

impl Segment {
    fn bytes(&self) -> usize {
        self.chunks.iter().map(Message::len).sum()
    }

    /// What goes over the wire.
    fn messages(&self) -> Result<Vec<Message>, Error> {
        let mut messages = vec![self.schema.clone()];
        for (sequence, chunk) in (self.first..).zip(&self.chunks) {
            let crc32c = Some(hexadecimal(crc32c_of(chunk)));
            for (part, piece) in cut(chunk) {
                let crc32c = crc32c.clone();
                let app_metadata = json(&Sent { sequence, crc32c, part })?;
                messages.push(Message { app_metadata, ..piece });
            }
        }
        if let Some(commit) = self.commit {
            let app_metadata = json(&Commit { commit })?;
            messages.push(Message { app_metadata, ..Message::default() });
        }
        Ok(messages)
    }

    fn put_here(&self, exchange: &Exchange) -> Result<(), Error> {
        exchange.begin(&self.key, self.sender, &self.schema)?;
        for (sequence, chunk) in (self.first..).zip(&self.chunks) {
            exchange.admit(&self.key, self.sender, chunk)?;
            exchange.push(&self.key, self.sender, sequence, None, chunk.clone())?;
        }
        match self.commit {
            Some(totals) => exchange.commit(&self.key, self.sender, totals),
            None => Ok(()),
        }
    }
}

impl ExchangeClient {
    /// Has a worker take a segment.
    pub(super) async fn put(&self, segment: &Segment) -> Result<(), Error> {
        let put = match self.local(&segment.peer) {
            Some(local) => {
                self.calls
                    .with_retries(&segment.peer, || {
                        Box::pin(async {
                            local.make_room(segment.bytes() as u64).await;
                            self.hand_over(segment, local)
                        })
                    })
                    .await
            }
            None => match segment.messages() {
                Ok(messages) => {
                    self.calls
                        .with_retries(&segment.peer, || Box::pin(self.call(segment, &messages)))
                        .await
                }
                Err(error) => Err(error),
            },
        };
        put.map_err(|cause| self.calls.send_failed(&segment.peer, &segment.key, cause))
    }

    fn hand_over(&self, segment: &Segment, to: &Exchange) -> Result<(), Error> {
        segment.put_here(to)?;
        self.calls.metrics.handed_over(segment.chunks.len());
        Ok(())
    }

    /// One call, within what may be in flight.
    async fn call(&self, segment: &Segment, messages: &[Message]) -> Result<(), Error> {
        let Shared { pool, governor, lines, options, .. } = &*self.shared;
        // The line first: who waits for a slow worker holds no bytes of others.
        let _line = lines.acquire(&segment.peer).await;
        let _bytes = governor.acquire(segment.bytes()).await;
        self.calls.sent(&segment.peer, segment.chunks.len(), segment.bytes());
        let Segment { peer, key, sender, .. } = segment;
        let (stage, partition) = (key.stage().to_string(), key.partition().to_string());
        let path = [NAMESPACE, key.query(), &stage, &partition];
        let mut call = CallOptions::default().deadline(options.call_deadline);
        for (name, value) in headers(*sender) {
            call = call.header(name, value);
        }
        let stream = stream::iter(messages.to_vec()).map(Ok).boxed();
        let answer = pool.connection(peer)?.put(&path, &call, stream).await?;
        let answer: PutAnswer = parse("the answer to a put", &answer)?;
        let after = segment.first + segment.chunks.len() as u64;
        if answer.committed != segment.commit.is_some() || answer.next_sequence < after {
            let text = format!("{peer} answers {answer:?} to chunks up to {after}");
            return Err(Error::Protocol(text));
        }
        Ok(())
    }
}
