//! The result of all, for people and for programs.

use std::time::Duration;

use serde::Serialize;
use sheaf_terminal::{HumanBytes, Table, count};

/// What one run did.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) example: &'static str,
    pub(crate) workers: u32,
    pub(crate) partitions: u32,
    /// Of the result.
    pub(crate) rows: u64,
    /// That were sent, those that were sent again included.
    pub(crate) bytes: u64,
    /// Of all.
    pub(crate) seconds: f64,
    /// Until everything was sent.
    pub(crate) shuffle_seconds: f64,
    pub(crate) gb_per_second: f64,
    /// Of the largest worker; null where the system does not say.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Of all workers that live, each at its peak.
    pub(crate) peak_rss_bytes_sum: Option<u64>,
    /// Workers that died and were started again.
    pub(crate) restarts: u32,
    /// Shares that were sent again, in part or whole.
    pub(crate) resent: u32,
    /// Whether the rows are those of pyarrow; null where nobody asked.
    pub(crate) checked: Option<bool>,
}

impl Report {
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(["what"]).right("figure");
        let bytes = |bytes: u64| HumanBytes(bytes).to_string();
        let memory =
            |bytes: Option<u64>| bytes.map_or("-".to_owned(), |one| HumanBytes(one).to_string());
        let mut row = |what: &str, figure: String| table.row([what, &figure]);
        row("workers", count(self.workers.into()));
        row("partitions", count(self.partitions.into()));
        row("rows of the result", count(self.rows));
        row("bytes sent", bytes(self.bytes));
        row("seconds", format!("{:.2}", self.seconds));
        row("seconds of the shuffle", format!("{:.2}", self.shuffle_seconds));
        row("GB/s of the shuffle", format!("{:.2}", self.gb_per_second));
        row("peak memory of the largest worker", memory(self.peak_rss_bytes));
        row("peak memory of all workers", memory(self.peak_rss_bytes_sum));
        row("workers that were started again", count(self.restarts.into()));
        row("shares that were sent again", count(self.resent.into()));
        if self.checked == Some(true) {
            row("rows are those of pyarrow", "yes".to_owned());
        }
        table
    }
}

/// Gigabytes in a second; 0 where no time has passed.
pub(crate) fn gb_per_second(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { bytes as f64 / 1e9 / seconds } else { 0.0 }
}
