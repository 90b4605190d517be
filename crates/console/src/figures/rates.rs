//! From two readings to what is shown.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::reading::{Instance, Reading};
use super::row::{ComponentRow, EdgeRow};
use super::stats::Stats;
use super::told::Told;

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// In the order of the reading: one for each instance.
    pub components: Vec<ComponentRow>,
    /// By pipeline and name.
    pub edges: Vec<EdgeRow>,
}

impl Rows {
    /// Rates are those since `before`.
    pub fn of(before: Option<&Reading>, now: &Reading) -> Self {
        let earlier = before.into_iter().flat_map(|before| &before.instances);
        // Another process counts anew.
        let earlier: HashMap<(&str, u64), &Stats> = earlier
            .filter_map(|one| Some(((&*one.component.id, one.component.fence), stats(one)?)))
            .collect();
        let elapsed = before.map_or(Duration::ZERO, |before| now.at.saturating_sub(before.at));
        let mut rows = Rows::default();
        let mut sent = BTreeMap::new();
        let all = now.instances.iter().map(|instance| {
            let component = &instance.component;
            let before = earlier.get(&(&*component.id, component.fence)).copied();
            Told { instance, now: stats(instance), before, elapsed }
        });
        let all: Vec<Told<'_>> = all.collect();
        for told in &all {
            rows.components.push(told.component());
            told.add_edges(&mut sent);
        }
        let sent = sent.into_iter().map(|(key, (row, _))| (key, row));
        let mut edges: BTreeMap<_, EdgeRow> = sent.collect();
        // Of somebody's own component nothing may be known but what its readers have.
        let mut unsent = BTreeMap::new();
        all.iter().for_each(|told| told.add_unsent(&mut unsent));
        for (key, row) in unsent {
            edges.entry(key).or_insert(row);
        }
        rows.edges = edges.into_values().collect();
        rows
    }
}

fn stats(instance: &Instance) -> Option<&Stats> {
    instance.stats.as_ref()?.as_ref().ok()
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
