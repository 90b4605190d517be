//! What a component tells at `/stats`. Of one in another language, a part may be missing.

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stats {
    pub(super) resident_bytes: Option<u64>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
}

/// One stream that leads in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Input {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// One edge that leads out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Output {
    pub(super) edge: String,
    pub(super) taps: u64,
    pub(super) streams: Vec<Stream>,
}

/// One stream of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stream {
    pub(super) connected: bool,
    pub(super) finished: bool,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) credits: u64,
    pub(super) waiting: u64,
    pub(super) unacknowledged: u64,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) spilled_bytes: u64,
    pub(super) dropped: u64,
}

impl Stats {
    /// Rows and bytes that came in so far.
    pub(super) fn taken(&self) -> (u64, u64) {
        let sum = |(rows, bytes), one: &Input| (rows + one.rows, bytes + one.bytes);
        self.inputs.iter().fold((0, 0), sum)
    }

    /// Rows and bytes that went out so far, over all edges.
    pub(super) fn sent(&self) -> (u64, u64) {
        let streams = self.outputs.iter().flat_map(|output| &output.streams);
        streams.fold((0, 0), |(rows, bytes), one| (rows + one.rows, bytes + one.bytes))
    }

    /// Batches that its readers have not acknowledged.
    pub(super) fn lag(&self) -> u64 {
        let streams = self.outputs.iter().flat_map(|output| &output.streams);
        streams.map(|stream| stream.unacknowledged).sum()
    }
}
