//! What there is of each query, as a report of bounded size.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Query, Skew, Table};

/// Queries of a report, and stages of each of them.
const MAX_QUERIES: usize = 100;
const MAX_STAGES: usize = 100;

/// What a worker has received, by query and stage.
///
/// Numbers of single queries are here, and not labels of metrics: there is no
/// end of queries, and a series never goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShuffleStats {
    /// Bytes in the budget, that of chunks and of what else counts in it.
    pub memory_bytes: u64,
    /// Most bytes of the budget.
    pub memory_limit_bytes: u64,
    /// Bytes of spill files.
    pub disk_bytes: u64,
    /// Whether no new attempts are taken.
    pub draining: bool,
    /// The newest 100 queries, the newest first.
    pub queries: Vec<QueryStats>,
    /// Queries that are left out.
    pub left_out: usize,
}

/// What is there of one query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryStats {
    /// Its name.
    pub query: String,
    /// Since its first sender began.
    pub age_ms: u64,
    /// Since something of it was sent or read.
    pub idle_ms: u64,
    /// The first 100 stages.
    pub stages: Vec<StageStats>,
    /// Stages that are left out.
    pub left_out: usize,
}

/// What is there of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStats {
    /// Its number.
    pub stage: u32,
    /// Partitions that are here.
    pub partitions: usize,
    /// Those of which all senders have committed.
    pub ready: usize,
    /// Senders that have committed, of all partitions together.
    pub committed: u64,
    /// Senders of all partitions together.
    pub senders: u64,
    /// Rows, of senders that have not committed those so far.
    pub rows: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Bytes of them that are in memory.
    pub memory_bytes: u64,
    /// Bytes of them that are on disk.
    pub spilled_bytes: u64,
    /// How unequal the partitions are.
    pub skew: Skew,
}

impl Table {
    /// The newest queries, or one; and how many are left out.
    pub(in super::super) fn newest(&self, of: Option<&str>) -> (Vec<String>, usize) {
        let named = |name: &str| of.is_none_or(|of| of == name);
        let mut all: Vec<_> = self.queries.iter().filter(|(name, _)| named(name)).collect();
        all.sort_by(|one, other| (other.1.began, one.0).cmp(&(one.1.began, other.0)));
        let left_out = all.len().saturating_sub(MAX_QUERIES);
        all.truncate(MAX_QUERIES);
        (all.into_iter().map(|(name, _)| name.clone()).collect(), left_out)
    }

    /// What is here of a query.
    pub(in super::super) fn stats(&self, query: &str, now: Duration) -> Option<QueryStats> {
        Some(self.queries.get(query)?.stats(query, now))
    }
}

impl Query {
    fn stats(&self, name: &str, now: Duration) -> QueryStats {
        let ms = |since: Duration| {
            u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
        };
        let mut numbers: Vec<u32> = self.partitions.keys().map(|(stage, _)| *stage).collect();
        numbers.dedup();
        let left_out = numbers.len().saturating_sub(MAX_STAGES);
        numbers.truncate(MAX_STAGES);
        let stages = numbers.into_iter().map(|stage| self.stage(stage)).collect();
        let (age_ms, idle_ms) = (ms(self.began.unwrap_or(now)), ms(self.touched));
        QueryStats { query: name.to_owned(), age_ms, idle_ms, stages, left_out }
    }

    fn stage(&self, stage: u32) -> StageStats {
        let its = || self.partitions.range((stage, 0)..=(stage, u32::MAX));
        let (mut ready, mut committed, mut senders) = (0, 0, 0);
        let (mut bytes, mut rows) = (0, Vec::new());
        for ((_, number), partition) in its() {
            let ((totals, its_bytes), (have, all)) = (partition.sums(), partition.senders());
            ready += usize::from(have == all);
            committed += u64::from(have);
            senders += u64::from(all);
            bytes += its_bytes;
            rows.push((*number, totals.rows));
        }
        StageStats {
            stage,
            partitions: rows.len(),
            ready,
            committed,
            senders,
            rows: rows.iter().map(|(_, rows)| rows).sum(),
            bytes,
            memory_bytes: its().map(|(_, partition)| partition.resident.get()).sum(),
            spilled_bytes: its().map(|(_, partition)| partition.spilled).sum(),
            skew: Skew::of(&rows),
        }
    }
}
