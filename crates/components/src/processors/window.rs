//! Which rows are taken together.
//!
//! A [`Fold`] says what is made of the rows of a window; [`Windowed`] gives it their rows, and
//! knows which batches are done with: those of whose rows every window is out.
//!
//! After a crash all batches come again that are not done, and with them windows may come out
//! again that were out before: at least once. Such a window lacks the rows of batches that
//! were done already.

mod rows;
mod streams;
mod time;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received};
use sheaf_pipeline::spec::Window;
use sheaf_retry::SharedClock;

use super::failure;
use rows::Rows;
use time::Time;

/// Rows of small results that go on as one batch.
const BATCH_ROWS: usize = 8_192;

/// What is made of the rows of a window.
#[async_trait]
pub(super) trait Fold: Send + 'static {
    /// The rows that were taken so far, or what is left of them.
    type State: Send + Sync;

    /// Looks at rows before they are taken. An error leaves everything as it was.
    fn check(&mut self, batch: &RecordBatch) -> Result<(), ComponentError>;

    /// No rows yet; asked after the first check.
    fn empty(&self) -> Self::State;

    /// Takes rows that were checked. An error ends the component.
    fn add(&mut self, state: &mut Self::State, batch: &RecordBatch) -> Result<(), ComponentError>;

    /// What comes of the rows. After an error it may be asked again.
    async fn finish(
        &mut self,
        state: &Self::State,
        span: Option<Span>,
    ) -> Result<Vec<RecordBatch>, ComponentError>;
}

/// From when to when a window of time is, in microseconds since 1970; without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Folds windows of rows.
pub(super) struct Windowed<F: Fold> {
    fold: F,
    kind: Kind<F::State>,
    given: u64,
    /// What is to go on, and has not because of an error after it.
    ready: Vec<RecordBatch>,
    /// The batch that an error has broken off, and how many of its rows were taken.
    taken: Option<(Id, usize)>,
}

type Id = (Arc<str>, u32, u64);

enum Kind<S> {
    Batch,
    End(Option<S>),
    Rows(Rows<S>),
    Time(Box<Time<S>>),
}

impl<F: Fold> Windowed<F> {
    pub(super) fn new(
        fold: F,
        window: &Window,
        clock: &SharedClock,
    ) -> Result<Self, ComponentError> {
        let kind = match window {
            Window::Batch => Kind::Batch,
            Window::End => Kind::End(None),
            Window::Rows(0) => {
                return Err(failure::configuration("a window has 0 rows; take 1 at least"));
            }
            Window::Rows(rows) => Kind::Rows(Rows::new(*rows)),
            Window::Time(window) => Kind::Time(Box::new(Time::new(window, Arc::clone(clock))?)),
        };
        Ok(Windowed { fold, kind, given: 0, ready: Vec::new(), taken: None })
    }

    /// Takes the rows from `next` on; `next` says how far it has come.
    async fn take(&mut self, received: &Received, next: &mut usize) -> Result<(), ComponentError> {
        let Self { fold, ready, kind, .. } = self;
        let batch = &received.batch;
        let rows = batch.num_rows();
        match kind {
            Kind::Batch => {
                let mut state = fold.empty();
                fold.add(&mut state, batch)?;
                ready.extend(fold.finish(&state, None).await?);
            }
            Kind::End(state) => {
                fold.add(state.get_or_insert_with(|| fold.empty()), batch)?;
            }
            Kind::Rows(window) => window.take(fold, batch, next, ready).await?,
            Kind::Time(window) => {
                if *next == 0 {
                    window.take(fold, received)?;
                    *next = rows;
                }
                window.close(fold, ready).await?;
            }
        }
        *next = rows;
        Ok(())
    }

    fn done(&mut self) -> u64 {
        match &mut self.kind {
            Kind::Batch => self.given,
            Kind::End(_) => 0,
            Kind::Rows(window) => window.done(),
            Kind::Time(window) => window.done(),
        }
    }

    fn outcome(&mut self) -> Result<Outcome, ComponentError> {
        let batches = joined(std::mem::take(&mut self.ready))?;
        Ok(Outcome { batches, done: self.done() })
    }
}

#[async_trait]
impl<F: Fold> Processor for Windowed<F> {
    async fn begin(&mut self, streams: &[(Arc<str>, u32)]) -> Result<(), ComponentError> {
        if let Kind::Time(window) = &mut self.kind {
            window.begin(streams);
        }
        Ok(())
    }

    async fn stream_ended(
        &mut self,
        from: &Arc<str>,
        from_instance: u32,
    ) -> Result<Option<Outcome>, ComponentError> {
        let Kind::Time(window) = &mut self.kind else { return Ok(None) };
        window.stream_ended(from, from_instance);
        window.close(&mut self.fold, &mut self.ready).await?;
        self.outcome().map(Some)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        match &self.kind {
            Kind::Time(window) => window.counters(),
            _ => Vec::new(),
        }
    }

    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        let id = (Arc::clone(&received.from), received.from_instance, received.sequence);
        let mut next = match self.taken.take() {
            Some((taken, next)) if taken == id => next,
            _ => {
                if received.batch.num_rows() > 0 {
                    self.fold.check(&received.batch)?;
                    if let Kind::Time(window) = &mut self.kind {
                        window.check(&received.batch)?;
                    }
                }
                0
            }
        };
        if received.batch.num_rows() > 0
            && let Err(error) = self.take(received, &mut next).await
        {
            self.taken = (next > 0).then_some((id, next));
            return Err(error);
        }
        self.given += 1;
        match &mut self.kind {
            Kind::Rows(window) => window.given(received.batch.num_rows()),
            Kind::Time(window) => window.given(),
            _ => {}
        }
        self.outcome()
    }

    async fn tick(&mut self) -> Result<Option<Outcome>, ComponentError> {
        let Kind::Time(window) = &mut self.kind else { return Ok(None) };
        let closed = window.close(&mut self.fold, &mut self.ready).await?;
        // What an error has held up goes on too.
        if closed || !self.ready.is_empty() { self.outcome().map(Some) } else { Ok(None) }
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        let Self { fold, ready, kind, .. } = self;
        match kind {
            Kind::Batch => {}
            Kind::End(state) => {
                if let Some(all) = state {
                    ready.extend(fold.finish(all, None).await?);
                    *state = None;
                }
            }
            Kind::Rows(window) => window.end(fold, ready).await?,
            Kind::Time(window) => window.end(fold, ready).await?,
        }
        let batches = joined(std::mem::take(&mut self.ready))?;
        Ok(Outcome { batches, done: self.given })
    }
}

/// Small batches of one schema as one.
fn joined(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ComponentError> {
    let mut joined: Vec<RecordBatch> = Vec::with_capacity(batches.len().min(64));
    let mut run: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    let mut close = |run: &mut Vec<RecordBatch>| {
        match run.as_slice() {
            [] => {}
            [one] => joined.push(one.clone()),
            [first, ..] => {
                let one = concat_batches(first.schema_ref(), run.iter());
                joined.push(one.map_err(failure::arrow("join results"))?);
            }
        }
        run.clear();
        Ok::<(), ComponentError>(())
    };
    for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
        let fits = run.first().is_none_or(|first| {
            first.schema_ref() == batch.schema_ref() && rows + batch.num_rows() <= BATCH_ROWS
        });
        if !fits {
            close(&mut run)?;
            rows = 0;
        }
        rows += batch.num_rows();
        run.push(batch);
    }
    close(&mut run)?;
    Ok(joined)
}

/// How much memory the windows of a processor take; each gives back its own at its end.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<AtomicU64>);

/// The part of one window.
pub(super) struct Share {
    memory: Memory,
    bytes: u64,
}

/// What all open windows of a processor may take.
const MAX_BYTES: u64 = 2 << 30;

impl Memory {
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Says how large it is by now.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), ComponentError> {
        let (before, now) = (self.bytes, bytes as u64);
        self.bytes = now;
        let all = &self.memory.0;
        let total = match now >= before {
            true => all.fetch_add(now - before, Ordering::Relaxed) + (now - before),
            false => all.fetch_sub(before - now, Ordering::Relaxed) - (before - now),
        };
        if total > MAX_BYTES {
            return Err(failure::limit(format!(
                "the open windows take {total} bytes, over the limit of {MAX_BYTES}; make them \
                 shorter, take fewer groups, or spread them over replicas"
            )));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
