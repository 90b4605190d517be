//! What is shown of a component, and of an edge.

use serde::Serialize;

use super::stats::Stream;

pub(super) const BROKEN: &str = "broken";
pub(super) const WAITS: &str = "waits";
pub(super) const FLOWS: &str = "flows";
pub(super) const ENDED: &str = "ended";

/// One instance. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ComponentRow {
    pub(super) place: String,
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) rows_in_per_second: Option<u64>,
    pub(super) rows_out_per_second: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) lag: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) restarts: u32,
    pub(super) reason: String,
}

/// One edge, all its streams together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct EdgeRow {
    pub(super) pipeline: String,
    pub(super) edge: String,
    pub(super) state: &'static str,
    pub(super) rows_per_second: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) rows: u64,
    pub(super) lag: u64,
    pub(super) waiting: u64,
    pub(super) credits: u64,
    pub(super) dropped: u64,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) spilled_bytes: u64,
    /// How many look at it.
    pub(super) taps: u64,
}

impl EdgeRow {
    /// Adds one of its streams; the worst of them is the state of all.
    pub(super) fn add(&mut self, stream: &Stream) {
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
        self.lag += stream.unacknowledged;
        self.waiting += stream.waiting;
        self.credits += stream.credits;
        self.dropped += stream.dropped;
        self.memory_bytes += stream.memory_bytes;
        self.disk_bytes += stream.disk_bytes;
        self.spilled_bytes += stream.spilled_bytes;
    }
}
