//! Queries of which nobody sends or reads anything any more.

use std::time::Duration;

use super::super::error::Gone;
use super::{Dropped, Table};

impl Table {
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
}
