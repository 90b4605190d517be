//! The counters of one process at two times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reading::Instance;
use super::row::{ComponentRow, ENDED, EdgeRow, FLOWS, Queues};
use super::stats::{Input, Output, Stats, Stream};

/// What one process has told twice.
pub(super) struct Told<'a> {
    pub(super) instance: &'a Instance,
    pub(super) now: Option<&'a Stats>,
    pub(super) before: Option<&'a Stats>,
    pub(super) elapsed: Duration,
}

impl Told<'_> {
    fn rate(&self, of: impl Fn(&Stats) -> u64) -> Option<u64> {
        per_second(of(self.before?), of(self.now?), self.elapsed)
    }

    pub(super) fn component(&self) -> ComponentRow {
        let component = &self.instance.component;
        let reason = match &self.instance.stats {
            Some(Err(why)) if component.reason.is_empty() => why.clone(),
            Some(Ok(Stats { trouble: Some(why), .. })) if component.reason.is_empty() => {
                why.clone()
            }
            _ => component.reason.clone(),
        };
        let bytes = |stats: &Stats| stats.taken().1.max(stats.sent().1);
        ComponentRow {
            place: component.id.clone(),
            kind: component.kind.as_str(),
            status: component.status.as_str(),
            rows_in_per_second: self.rate(|stats| stats.taken().0),
            rows_out_per_second: self.rate(|stats| stats.sent().0),
            bytes_per_second: self.rate(bytes),
            rows_in: self.now.map(|stats| stats.taken().0),
            rows_out: self.now.map(|stats| stats.sent().0),
            lag: self.now.map(Stats::lag),
            memory_bytes: self.now.and_then(|stats| stats.resident_bytes),
            restarts: component.restarts,
            reason,
        }
    }

    pub(super) fn add_edges(&self, edges: &mut BTreeMap<(String, String), (EdgeRow, Queues)>) {
        for output in self.now.into_iter().flat_map(|stats| &stats.outputs) {
            let pipeline = &self.instance.component.pipeline;
            let key = (pipeline.clone(), output.edge.clone());
            let (row, queues) = edges.entry(key).or_insert_with(|| {
                let (pipeline, edge) = (pipeline.clone(), output.edge.clone());
                let row = EdgeRow { pipeline, edge, state: ENDED, ..EdgeRow::default() };
                (row, Queues::new())
            });
            let sum = |stats: &Stats, of: fn(&Stream) -> u64| {
                let same = |one: &&Output| one.edge == output.edge;
                stats.outputs.iter().filter(same).flat_map(|one| &one.streams).map(of).sum::<u64>()
            };
            add(&mut row.rows_per_second, self.rate(|stats| sum(stats, |one| one.rows)));
            add(&mut row.bytes_per_second, self.rate(|stats| sum(stats, |one| one.bytes)));
            row.taps += output.taps;
            output.streams.iter().for_each(|stream| row.add(stream, queues));
        }
    }
}

/// An edge whose senders tell nothing, as its reader sees it.
impl Told<'_> {
    pub(super) fn add_unsent(&self, edges: &mut BTreeMap<(String, String), EdgeRow>) {
        for input in self.now.into_iter().flat_map(|stats| &stats.inputs) {
            let pipeline = &self.instance.component.pipeline;
            let row = edges.entry((pipeline.clone(), input.edge.clone())).or_insert_with(|| {
                let (pipeline, edge) = (pipeline.clone(), input.edge.clone());
                EdgeRow { pipeline, edge, state: FLOWS, ..EdgeRow::default() }
            });
            let sum = |stats: &Stats, of: fn(&Input) -> u64| {
                stats.inputs.iter().filter(|one| one.edge == input.edge).map(of).sum::<u64>()
            };
            add(&mut row.rows_per_second, self.rate(|stats| sum(stats, |one| one.rows)));
            add(&mut row.bytes_per_second, self.rate(|stats| sum(stats, |one| one.bytes)));
            row.rows += input.rows;
            row.bytes += input.bytes;
        }
    }
}

/// What a counter grew by in a second; `None` where that cannot be told.
pub(super) fn per_second(before: u64, now: u64, elapsed: Duration) -> Option<u64> {
    let grown = u128::from(now.checked_sub(before)?) * 1_000_000;
    u64::try_from(grown.checked_div(elapsed.as_micros())?).ok()
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0) + more);
    }
}
