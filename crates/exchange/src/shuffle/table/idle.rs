//! Queries that nobody uses any more, and attempts of dead senders.

use std::time::Duration;

use super::super::error::Gone;
use super::super::key::PartitionKey;
use super::{Dropped, Table};

impl Table {
    /// Something of a partition was sent now.
    pub(in super::super) fn touch_sender(
        &mut self,
        key: &PartitionKey,
        sender: u32,
        now: Duration,
    ) {
        self.touch(key.query(), now);
        if let Ok(partition) = self.found(key) {
            partition.touch(sender, now);
        }
    }

    /// Something of a query was sent or read now.
    pub(in super::super) fn touch(&mut self, query: &str, now: Duration) {
        if let Some(query) = self.queries.get_mut(query) {
            query.began.get_or_insert(now);
            query.touched = now;
        }
    }

    /// Drops the queries that were not touched for `limit`, and refuses them
    /// from now on; their names, and what they had.
    pub(in super::super) fn sweep(
        &mut self,
        now: Duration,
        limit: Duration,
    ) -> Vec<(String, Dropped)> {
        let idle = self.queries.iter();
        let idle = idle.filter(|(_, query)| now.saturating_sub(query.touched) >= limit);
        let names: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
        let dropped = names.into_iter().map(|name| {
            let dropped = self.clean_up(&name, Gone::Idle { limit });
            (name, dropped)
        });
        dropped.collect()
    }

    /// Drops what attempts have sent of which nothing came for `limit`, in queries
    /// that are in use; how many they were. Their senders have to begin anew.
    pub(in super::super) fn end_idle(&mut self, now: Duration, limit: Duration) -> u64 {
        let partitions = self.queries.values_mut().flat_map(|query| query.partitions.values_mut());
        partitions.map(|partition| partition.end_idle(now, limit)).sum()
    }
}
