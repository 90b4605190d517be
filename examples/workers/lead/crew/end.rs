//! What came of all, and the end of the workers.

use std::time::Duration;

use sheaf_terminal::Failure;

use super::Crew;
use crate::workers::report::{Report, gb_per_second};
use crate::workers::usage;

impl Crew {
    pub(crate) fn report(&self) -> Report {
        let peaks = self.children.iter().map(|child| usage::peak_rss(child.pid));
        let peaks: Option<Vec<u64>> = peaks.collect();
        let shuffle = self.shuffle.map_or(Duration::ZERO, |(from, to)| to - from);
        Report {
            example: self.job.name,
            workers: self.arguments.workers,
            partitions: self.partitions,
            rows: self.rows.values().sum(),
            bytes: self.bytes,
            seconds: (self.clock.elapsed() - self.started).as_secs_f64(),
            shuffle_seconds: shuffle.as_secs_f64(),
            gb_per_second: gb_per_second(self.bytes, shuffle),
            peak_rss_bytes: peaks.iter().flatten().max().copied(),
            peak_rss_bytes_sum: peaks.map(|peaks| peaks.iter().sum()),
            restarts: self.restarts,
            resent: self.resent,
            checked: None,
        }
    }

    /// Lets all workers end.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        for child in self.children {
            child.stop().await?;
        }
        Ok(())
    }
}
