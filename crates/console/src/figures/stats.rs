//! What a component tells at `/stats`. Of one in another language, a part may be missing.

use serde::Deserialize;

/// The counters of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Memory of the process.
    pub resident_bytes: Option<u64>,
    /// Calls that failed and were tried again.
    pub retries: u64,
    /// What fails just now and is tried again.
    pub trouble: Option<String>,
    /// Streams that lead in.
    pub inputs: Vec<Input>,
    /// Edges that lead out.
    pub outputs: Vec<Output>,
}

/// One stream that leads in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Input {
    /// `FROM:TO`.
    pub edge: String,
    /// Batches of a durable edge that its reader could not take, and that have failed for good.
    pub failed: u64,
    /// That came so far.
    pub rows: u64,
    /// That came so far.
    pub bytes: u64,
}

/// One edge that leads out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Output {
    /// `FROM:TO`.
    pub edge: String,
    /// How many look at it.
    pub taps: u64,
    /// One for each pair of instances.
    pub streams: Vec<Stream>,
}

/// One stream of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    /// Which instance reads it.
    pub to: u32,
    /// Whether it goes through a queue: what waits there is told by every sender of it.
    pub durable: bool,
    /// Whether its reader is there.
    pub connected: bool,
    /// Whether it has come to its end.
    pub finished: bool,
    /// That went so far.
    pub rows: u64,
    /// That went so far.
    pub bytes: u64,
    /// Batches that the reader would take now.
    pub credits: u64,
    /// Batches that wait to be sent.
    pub waiting: u64,
    /// Batches that the reader has not acknowledged.
    pub unacknowledged: u64,
    /// Held in memory.
    pub memory_bytes: u64,
    /// Held on disk.
    pub disk_bytes: u64,
    /// Written to disk so far.
    pub spilled_bytes: u64,
    /// Batches dropped by the policy of the edge.
    pub dropped: u64,
}

impl Stats {
    /// Rows and bytes that came in so far.
    pub fn taken(&self) -> (u64, u64) {
        let sum = |(rows, bytes), one: &Input| (rows + one.rows, bytes + one.bytes);
        self.inputs.iter().fold((0, 0), sum)
    }

    /// Rows and bytes that went out so far, over all edges.
    pub fn sent(&self) -> (u64, u64) {
        let streams = self.outputs.iter().flat_map(|output| &output.streams);
        streams.fold((0, 0), |(rows, bytes), one| (rows + one.rows, bytes + one.bytes))
    }

    /// Batches that its readers have not acknowledged.
    pub fn lag(&self) -> u64 {
        let streams = self.outputs.iter().flat_map(|output| &output.streams);
        streams.map(|stream| stream.unacknowledged).sum()
    }
}
