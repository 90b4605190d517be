//! Live copies of what goes over an edge, for who wants to look.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::{Compression, Encoder};
use sheaf_flight::{Error, Message, MessageStream};
use sheaf_retry::Code;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Edge;

/// Batches that wait for who looks; the oldest goes where there are more.
const WAITING: usize = 16;

/// Where an edge can be looked at. It never slows the edge.
#[derive(Debug)]
pub(crate) struct Tap {
    batches: broadcast::Sender<RecordBatch>,
    /// Batches that somebody who looked did not get, for being slow.
    pub(crate) missed: AtomicU64,
}

impl Default for Tap {
    fn default() -> Self {
        Tap { batches: broadcast::Sender::new(WAITING), missed: AtomicU64::new(0) }
    }
}

impl Tap {
    /// Shows a batch to all who look.
    pub(crate) fn show(&self, batch: &RecordBatch) {
        if self.batches.receiver_count() > 0 {
            // All may have left just now.
            drop(self.batches.send(batch.clone()));
        }
    }

    /// How many look.
    pub(crate) fn watchers(&self) -> usize {
        self.batches.receiver_count()
    }
}

struct Look {
    edge: Arc<Edge>,
    batches: broadcast::Receiver<RecordBatch>,
    encoder: Option<Encoder>,
    ready: VecDeque<Message>,
    over: bool,
}

/// What goes over the edge from now on; it begins with the first batch that comes.
pub(crate) fn messages(edge: Arc<Edge>) -> MessageStream {
    let batches = edge.tap.batches.subscribe();
    let look = Look { edge, batches, encoder: None, ready: VecDeque::new(), over: false };
    stream::unfold(look, Look::next).boxed()
}

impl Look {
    async fn next(mut self) -> Option<(Result<Message, Error>, Self)> {
        while self.ready.is_empty() && !self.over {
            match self.batches.recv().await {
                Ok(batch) => {
                    if let Err(error) = self.encode(&batch) {
                        self.over = true;
                        return Some((Err(error), self));
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    self.edge.tap.missed.fetch_add(missed, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => self.over = true,
            }
        }
        let message = self.ready.pop_front()?;
        Some((Ok(message), self))
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let (encoder, schema) = Encoder::try_new(batch.schema(), Compression::None)?;
                self.ready.push_back(schema);
                none.insert(encoder)
            }
        };
        let messages = encoder.encode(batch).map_err(|error| {
            Error::new(Code::FailedPrecondition, format!("{}: {}", self.edge.id, error.message()))
        })?;
        self.ready.extend(messages);
        Ok(())
    }
}
