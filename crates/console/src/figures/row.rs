//! What is shown of a component, and of an edge.

use std::collections::BTreeMap;

use serde::Serialize;

use super::stats::Stream;

/// A reader is away.
pub const BROKEN: &str = "broken";
/// The readers are the slower ones: batches wait for credits.
pub const WAITS: &str = "waits";
/// Batches go as they come.
pub const FLOWS: &str = "flows";
/// All streams have ended.
pub const ENDED: &str = "ended";

/// One instance. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ComponentRow {
    /// Its id in the registry: `PIPELINE:INSTANCE`.
    pub place: String,
    /// `source`, `processor` or `sink`.
    pub kind: &'static str,
    /// As the registry has it, such as `healthy`.
    pub status: &'static str,
    /// Over all that lead in.
    pub rows_in_per_second: Option<u64>,
    /// Over all that lead out.
    pub rows_out_per_second: Option<u64>,
    /// In or out, what is more.
    pub bytes_per_second: Option<u64>,
    /// That came in since its process began.
    pub rows_in: Option<u64>,
    /// That went out since its process began.
    pub rows_out: Option<u64>,
    /// Batches that its readers have not acknowledged.
    pub lag: Option<u64>,
    /// Of its process.
    pub memory_bytes: Option<u64>,
    /// New incarnations in this run after one that had failed.
    pub restarts: u32,
    /// Why it is not healthy, or tells nothing.
    pub reason: String,
}

/// One edge, all its streams together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EdgeRow {
    /// The pipeline.
    pub pipeline: String,
    /// `FROM:TO`.
    pub edge: String,
    /// The worst of its streams: [`BROKEN`], [`WAITS`], [`FLOWS`] or [`ENDED`].
    pub state: &'static str,
    /// Over all streams.
    pub rows_per_second: Option<u64>,
    /// Over all streams.
    pub bytes_per_second: Option<u64>,
    /// Since its senders began.
    pub rows: u64,
    /// Since its senders began.
    pub bytes: u64,
    /// Batches that the readers have not acknowledged.
    pub lag: u64,
    /// Batches that wait for credits.
    pub waiting: u64,
    /// Batches that the readers would take now.
    pub credits: u64,
    /// Batches dropped by its policy.
    pub dropped: u64,
    /// Held in memory until they are acknowledged.
    pub memory_bytes: u64,
    /// Held on disk until they are acknowledged.
    pub disk_bytes: u64,
    /// Written to disk since its senders began.
    pub spilled_bytes: u64,
    /// How many look at it.
    pub taps: u64,
}

/// What every stream into the queue of a reader tells alike, by the number of the reader.
pub(super) type Queues = BTreeMap<u32, Queue>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    lag: u64,
    waiting: u64,
}

impl EdgeRow {
    /// Adds one of its streams; the worst of them is the state of all.
    pub(super) fn add(&mut self, stream: &Stream, queues: &mut Queues) {
        let state = match stream {
            Stream { finished: true, .. } => ENDED,
            Stream { connected: false, .. } => BROKEN,
            Stream { waiting: 1.., credits: 0, .. } => WAITS,
            _ => FLOWS,
        };
        let worst = [BROKEN, WAITS, FLOWS, ENDED];
        let rank = |state| worst.iter().position(|one| *one == state);
        if rank(state) < rank(self.state) {
            self.state = state;
        }
        self.rows += stream.rows;
        self.bytes += stream.bytes;
        match stream.durable {
            true => self.add_queue(stream, queues),
            false => {
                self.lag += stream.unacknowledged;
                self.waiting += stream.waiting;
            }
        }
        self.credits += stream.credits;
        self.dropped += stream.dropped;
        self.memory_bytes += stream.memory_bytes;
        self.disk_bytes += stream.disk_bytes;
        self.spilled_bytes += stream.spilled_bytes;
    }

    /// Each sender tells of the whole queue of a reader, at slightly different times.
    fn add_queue(&mut self, stream: &Stream, queues: &mut Queues) {
        let Queue { lag, waiting } = queues.entry(stream.to).or_default();
        self.lag += stream.unacknowledged.saturating_sub(*lag);
        self.waiting += stream.waiting.saturating_sub(*waiting);
        (*lag, *waiting) = ((*lag).max(stream.unacknowledged), (*waiting).max(stream.waiting));
    }
}
