//! The order of starts and of stops.

use std::collections::{HashMap, VecDeque};

use super::Plan;
use crate::spec::Pipeline;

/// The length of the longest way to each component.
pub(super) fn depths(pipeline: &Pipeline) -> HashMap<&str, usize> {
    let mut readers: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut waiting: HashMap<&str, usize> = HashMap::new();
    for (_, component) in pipeline.components() {
        waiting.insert(&component.id, component.inputs.len());
        for input in &component.inputs {
            readers.entry(&input.from).or_default().push(&component.id);
        }
    }
    let ready = pipeline.components().map(|(_, component)| component.id.as_str());
    let mut queue: VecDeque<&str> = ready.filter(|id| waiting[id] == 0).collect();
    let mut depths: HashMap<&str, usize> = queue.iter().map(|id| (*id, 0)).collect();
    while let Some(id) = queue.pop_front() {
        let depth = depths.get(id).copied().unwrap_or_default() + 1;
        for reader in readers.get(id).into_iter().flatten() {
            let known = depths.entry(reader).or_default();
            *known = depth.max(*known);
            if let Some(left) = waiting.get_mut(reader) {
                *left -= 1;
                if *left == 0 {
                    queue.push_back(reader);
                }
            }
        }
    }
    depths
}

impl Plan {
    /// Components in the order of their start, those of one group at once:
    /// readers first, so that every stream finds its other end.
    pub fn start_order(&self) -> Vec<Vec<&str>> {
        let mut groups = self.stop_order();
        groups.reverse();
        groups
    }

    /// Components in the order of their stop, those of one group at once:
    /// sources first, so that what is on its way arrives.
    pub fn stop_order(&self) -> Vec<Vec<&str>> {
        let mut groups: Vec<Vec<&str>> = Vec::new();
        // In the order of depth already.
        for component in &self.components {
            if groups.len() <= component.depth {
                groups.resize(component.depth + 1, Vec::new());
            }
            groups[component.depth].push(&component.id);
        }
        groups
    }
}
