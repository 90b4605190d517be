//! Hands what topics become to a sink, and counts it as done after that.
//!
//! What has to hold:
//! - Where a partition goes on after a start, the sink says, so that every row is
//!   there once, whenever the gateway is killed.
//! - Kafka is told of an offset after the sink has it, so that lag is true.
//! - What was read of a partition before it went is not written once it is
//!   claimed again: its rows would be there twice, and its position go back.

mod held;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{Class, Code, RetryPolicy, Retryable as _, SharedClock};
use tokio::sync::mpsc;

use crate::consume::{Places, Pooled};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::sink::{TopicRows, TopicSink};
use crate::streams::Streams;
use crate::tracker::{SpanId, TopicPartition, Tracker};
use held::{Held, changed};
use refused::Refusal;

/// Chunks that wait to be written.
const QUEUE: usize = 64;

/// How long a sink that does not take rows is left alone at most.
const LONGEST: Duration = Duration::from_secs(5);

/// How often the sink is asked again where partitions go on.
const CLAIMS: u32 = 10;
/// And when.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// An error as a field of a log line, with what caused it.
fn why<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    error
}

/// Whose turn it is: somebody who claims partitions, or who looks whether they are
/// still the same and writes.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

/// What came of one chunk, or of a part of it.
pub(crate) struct Converted {
    /// Of the chunk.
    pub(crate) span: SpanId,
    pub(crate) rows: TopicRows,
    /// What they came of, for those that the sink refuses.
    pub(crate) messages: Arc<Pooled>,
    /// Whether nothing of the chunk comes after it.
    pub(crate) is_last: bool,
}

/// The way to a sink. The writer ends once all of these are gone.
#[derive(Clone)]
pub(crate) struct Persister {
    queue: mpsc::Sender<Converted>,
}

impl Persister {
    /// A way to a sink, and what the writer takes from it.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Converted>) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        (Persister { queue }, jobs)
    }

    /// Until nothing more is written, because it cannot be.
    pub(crate) async fn given_up(&self) {
        self.queue.closed().await;
    }

    /// Has a chunk written; waits while others are.
    pub(crate) async fn write(&self, converted: Converted) -> Result<(), Error> {
        self.queue.send(converted).await.map_err(|_| Error::StreamOver)
    }
}

/// The sink knows where partitions go on.
pub(crate) struct Stored {
    pub(crate) sink: Arc<dyn TopicSink>,
    pub(crate) turn: Turn,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) clock: SharedClock,
}

impl Places for Stored {
    fn needs_committed(&self) -> bool {
        self.sink.needs_committed()
    }

    fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let _turn = self.runtime.block_on(self.turn.lock());
        let mut tries = 0;
        loop {
            match self.runtime.block_on(self.sink.claim(partitions, committed)) {
                // A moment: who waits longer in here loses its partitions.
                Err(error) if tries < CLAIMS && error.code().class() == Class::Transient => {
                    tracing::warn!(error = why(&error), "it is not known yet where to go on");
                    self.runtime.block_on(async { self.clock.sleep(CLAIM_AGAIN).await });
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.runtime.block_on(self.sink.begin(places))
    }
}

/// Writes what comes, until no more can.
pub(crate) struct Writer {
    pub(crate) sink: Arc<dyn TopicSink>,
    pub(crate) turn: Turn,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: SharedClock,
}

impl Writer {
    pub(crate) async fn run(self, mut jobs: mpsc::Receiver<Converted>) {
        let mut held = self.sink.kept().map(Held::new);
        loop {
            let first = tokio::select! {
                first = jobs.recv() => first,
                kept = changed(held.as_mut()) => {
                    let Some(kept) = kept else { return };
                    kept.iter().for_each(|(span, rows)| self.kept(span, *rows));
                    continue;
                }
            };
            let Some(first) = first else { break };
            let batch = self.collect(first, &mut jobs).await;
            let written = match &mut held {
                Some(held) => self.hand_on(batch, held).await,
                None => self.write(batch).await,
            };
            if let Err(error) = written {
                // Nothing is committed from here on, and a restart reads it again.
                tracing::error!(error = why(&error), "rows cannot be persisted; reading stops");
                self.metrics.persist_failed();
                return;
            }
        }
        // Nothing comes any more; what was taken may be kept yet.
        while let Some(held) = held.as_mut().filter(|held| !held.is_empty()) {
            let Some(kept) = changed(Some(held)).await else { return };
            kept.iter().for_each(|(span, rows)| self.kept(span, *rows));
        }
    }

    /// One call of a sink that keeps rows later.
    async fn hand_on(&self, mut batch: Vec<Converted>, held: &mut Held) -> Result<(), Error> {
        let turn = self.turn.lock().await;
        batch.retain(|one| self.tracker.is_current(&one.span));
        let chunks: Vec<_> = batch.iter().map(|one| one.rows.clone()).collect();
        self.sink.append(&chunks).await?;
        drop(turn);
        for Converted { span, rows, is_last, .. } in batch {
            self.has_left(&rows);
            held.push(span, &rows, is_last);
        }
        Ok(())
    }

    /// What was held is kept.
    fn kept(&self, span: &Option<SpanId>, rows: u64) {
        self.metrics.persisted(rows);
        if let Some(span) = span {
            self.tracker.done(span);
        }
    }

    /// What one call of the sink takes.
    async fn collect(
        &self,
        first: Converted,
        jobs: &mut mpsc::Receiver<Converted>,
    ) -> Vec<Converted> {
        let portion = self.sink.portion();
        let (mut rows, mut bytes) = first.rows.size();
        let mut batch = vec![first];
        let mut late = std::pin::pin!(self.clock.sleep(portion.linger));
        // Partitions go, or all ends: that waits for these rows.
        let mut hurried = std::pin::pin!(self.tracker.hurried());
        while rows < portion.rows && bytes < portion.bytes {
            tokio::select! {
                biased;
                next = jobs.recv() => {
                    let Some(next) = next else { break };
                    let (more_rows, more_bytes) = next.rows.size();
                    (rows, bytes) = (rows + more_rows, bytes + more_bytes);
                    batch.push(next);
                }
                () = &mut late => break,
                () = &mut hurried => break,
            }
        }
        batch
    }

    /// One call, tried until it succeeds where that may help. Gives back what the sink
    /// refuses, and why.
    async fn write_whole(&self, mut batch: Vec<Converted>) -> Result<Option<Refusal>, Error> {
        let mut attempt = 0;
        loop {
            let turn = self.turn.lock().await;
            // Partitions that went are somebody else's.
            batch.retain(|one| self.tracker.is_current(&one.span));
            batch = self.left_to_do(batch);
            if batch.is_empty() {
                return Ok(None);
            }
            let chunks: Vec<_> = batch.iter().map(|one| one.rows.clone()).collect();
            let appended = self.sink.append(&chunks).await;
            drop(turn);
            let error = match appended {
                Ok(rows) => {
                    self.done(&batch, rows);
                    return Ok(None);
                }
                Err(error) => error,
            };
            let is_fenced = error.code() == Code::StaleFence;
            let error = match refused::of_rows(error) {
                Ok(refused) => {
                    self.metrics.persist_failed();
                    return Ok(Some((batch, refused)));
                }
                Err(other) => other,
            };
            if !is_fenced && error.code().class() != Class::Transient {
                return Err(error);
            }
            if is_fenced {
                self.reconcile(&batch).await?;
            }
            let wait = RetryPolicy::QUEUE.delay_seeded(attempt, 0).unwrap_or(LONGEST).min(LONGEST);
            tracing::warn!(error = why(&error), ?wait, "rows are not persisted yet");
            self.metrics.persist_failed();
            attempt = attempt.saturating_add(1);
            self.clock.sleep(wait).await;
        }
    }

    /// Without what is stored already: where another member was ahead, what was on its
    /// way here is done, in whole or in part.
    fn left_to_do(&self, batch: Vec<Converted>) -> Vec<Converted> {
        let mut left = Vec::with_capacity(batch.len());
        for one in batch {
            match self.tracker.committable(&one.rows.of) {
                Some(stored) if stored >= one.rows.end => self.done(&[one], 0),
                Some(stored) => left.push(Converted { rows: one.rows.beyond(stored), ..one }),
                None => left.push(one),
            }
        }
        left
    }

    /// Somebody else wrote the same partitions: a member that was slow to let them
    /// go, or this one, whose answer was lost. Each write goes on from the position
    /// of the one before it, so what is stored is stored once, whoever did it. Here it
    /// is found out how far that is.
    async fn reconcile(&self, batch: &[Converted]) -> Result<(), Error> {
        let of: BTreeSet<_> = batch.iter().map(|one| one.rows.of.clone()).collect();
        let of: Vec<_> = of.into_iter().collect();
        let stored = loop {
            match self.sink.claim(&of, &BTreeMap::new()).await {
                Ok(stored) => break stored,
                Err(error) if error.code().class() == Class::Transient => {
                    if !batch.iter().any(|one| self.tracker.is_current(&one.span)) {
                        return Ok(());
                    }
                    tracing::warn!(error = why(&error), "the sink does not say how far it is");
                    self.clock.sleep(LONGEST).await;
                }
                Err(error) => return Err(error),
            }
        };
        // Before any is done: what is committed is then where a sink goes on.
        for (of, next) in &stored {
            self.tracker.reached(of, *next);
        }
        Ok(())
    }

    fn done(&self, batch: &[Converted], rows: u64) {
        self.metrics.persisted(rows);
        for Converted { span, rows, is_last, .. } in batch {
            if *is_last {
                self.tracker.done(span);
            }
            self.has_left(rows);
        }
    }

    /// The streams need not keep these rows.
    fn has_left(&self, rows: &TopicRows) {
        for (stream, _) in rows.by_stream() {
            if let Ok(stream) = self.streams.get(&stream) {
                stream.kept_elsewhere(rows.of.partition, rows.end);
            }
        }
    }
}

#[cfg(test)]
mod tests;
