//! What a sink took and has not kept yet.

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::sink::TopicRows;
use crate::tracker::SpanId;

/// What is kept now: each with its number of rows, and the span where it was the last of it.
pub(super) type Kept = Vec<(Option<SpanId>, u64)>;

/// Chunks in the order in which they were taken. The messages that they came of are gone: so
/// a reader that holds many rows back does not fill the memory of the consumer.
pub(super) struct Held {
    kept: watch::Receiver<u64>,
    /// Chunks with rows that were taken.
    taken: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    /// How many chunks have to be kept before this one is done.
    needs: u64,
    span: Option<SpanId>,
    rows: u64,
}

impl Held {
    pub(super) fn new(kept: watch::Receiver<u64>) -> Self {
        Held { kept, taken: 0, waiting: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Has taken a chunk.
    pub(super) fn push(&mut self, span: SpanId, rows: &TopicRows, is_last: bool) {
        self.taken += u64::from(rows.rows.is_some());
        let (needs, count) = (self.taken, rows.size().0 as u64);
        self.waiting.push_back(Waiting { needs, span: is_last.then_some(span), rows: count });
    }

    /// Takes out what `count` chunks that are kept make done.
    fn release(&mut self, count: u64) -> Kept {
        let done = self.waiting.iter().take_while(|one| one.needs <= count).count();
        self.waiting.drain(..done).map(|one| (one.span, one.rows)).collect()
    }
}

/// As soon as more is kept; `None` when no more ever is. Never, where a sink keeps what it
/// takes.
pub(super) async fn changed(held: Option<&mut Held>) -> Option<Kept> {
    let Some(held) = held else { return std::future::pending().await };
    let first = held.waiting.front().map(|one| one.needs);
    let Some(first) = first else {
        // Only the end of the channel is to be told.
        held.kept.wait_for(|_| false).await.ok();
        return None;
    };
    let count = *held.kept.wait_for(|count| *count >= first).await.ok()?;
    Some(held.release(count))
}
