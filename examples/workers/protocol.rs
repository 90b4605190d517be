//! What the parent and its workers tell each other, a line of JSON each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub(crate) enum Task {
    Send(Send),
    Reduce(Reduce),
}

/// Send a share of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Send {
    /// Which of the job's inputs.
    pub(crate) input: usize,
    /// Which share, of as many as there are workers.
    pub(crate) share: u32,
    /// How often it was begun.
    pub(crate) attempt: u64,
    /// The partitions that need it.
    pub(crate) only: BTreeSet<u32>,
    /// Of how many.
    pub(crate) partitions: u32,
    /// URIs of all workers.
    pub(crate) workers: Vec<String>,
}

/// Read a partition, and write what comes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reduce {
    pub(crate) partition: u32,
    /// The worker that has it.
    pub(crate) holder: String,
    /// Nobody else will read it: its memory is freed while it is read.
    pub(crate) consume: bool,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// It takes partitions and tasks.
    Ready { uri: String },
    /// So many rows of the share, of which there are so many, were taken.
    Sending { rows: u64, of: u64 },
    /// The share was sent, and committed.
    Sent { rows: u64, bytes: u64 },
    /// The partition has so many rows of the result.
    Reduced { partition: u32, rows: u64 },
    /// Another worker did not take a partition, or one is lost: its rows have
    /// to be sent again, with a higher attempt.
    Lost { partition: u32, peer: String, why: String },
    /// The task fails wherever it is done.
    Broken { why: String },
}

/// What the parent hears of a worker: an event, or that it is gone.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) slot: u32,
    pub(crate) pid: u32,
    pub(crate) event: Option<Event>,
}
