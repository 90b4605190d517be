//! What was made from what.

use std::collections::{HashMap, VecDeque};

use sheaf_proto::BatchId;

use super::{Engine, fence};
use crate::contract::Error;
use crate::limits::{self, MAX_LINEAGE, MAX_LINEAGE_LINKS, at_most};
use crate::request::{Direction, Lineage, LineageLink, LineageNode, LineageQuery};

fn key(id: &BatchId) -> u64 {
    fence::hash(id.as_str().as_bytes())
}

impl Engine {
    /// Enters which batches this one was made from, or takes it out.
    pub(super) fn link_parents(&mut self, slot: u32, add: bool) {
        let record = self.slab.get(slot);
        let sequence = record.sequence;
        for parent in record.spec("").parents {
            let entry = (key(&parent), false, sequence);
            if add {
                self.lineage.insert(entry);
            } else {
                self.lineage.remove(&entry);
            }
        }
    }

    /// Enters what this one was turned into, or takes it out.
    pub(super) fn link_outputs(&mut self, slot: u32, add: bool) {
        let record = self.slab.get(slot);
        let Some(extra) = record.extra.as_deref().filter(|extra| !extra.outputs.is_empty()) else {
            return;
        };
        for output in &extra.outputs {
            let entry = (key(output), true, record.sequence);
            if add {
                self.lineage.insert(entry);
            } else {
                self.lineage.remove(&entry);
            }
        }
    }

    /// Batches that name `id` as a parent, from a sequence number on.
    pub(super) fn made_from(&self, id: &BatchId, from: u64) -> impl Iterator<Item = (u64, u32)> {
        let range = (key(id), false, from)..=(key(id), false, u64::MAX);
        self.lineage
            .range(range)
            .filter_map(|(_, _, sequence)| Some((*sequence, *self.order.get(sequence)?)))
    }

    fn ancestors(&self, id: &BatchId, most: usize) -> Vec<BatchId> {
        let mut found = Vec::new();
        if let Some(slot) = self.find_id(id) {
            found.extend(self.slab.get(slot).spec("").parents);
        }
        let makers = self.lineage.range((key(id), true, 0)..=(key(id), true, u64::MAX)).take(most);
        for slot in makers.filter_map(|(_, _, sequence)| self.order.get(sequence)) {
            let record = self.slab.get(*slot);
            // The index goes by hash.
            if record.extra.as_ref().is_some_and(|extra| extra.outputs.contains(id)) {
                found.push(record.batch_id());
            }
        }
        found
    }

    fn descendants(&self, id: &BatchId, most: usize) -> Vec<BatchId> {
        let mut found = Vec::new();
        if let Some(slot) = self.find_id(id)
            && let Some(extra) = self.slab.get(slot).extra.as_deref()
        {
            found.extend(extra.outputs.iter().cloned());
        }
        for (_, slot) in self.made_from(id, 0).take(most) {
            let record = self.slab.get(slot);
            if record.spec("").parents.contains(id) {
                found.push(record.batch_id());
            }
        }
        found
    }

    /// Goes from batch to batch, nearest first, within the bounds.
    pub(super) fn trace(&self, query: &LineageQuery) -> Result<Lineage, Error> {
        at_most("limit", query.limit as usize, MAX_LINEAGE as usize)?;
        let limit = if query.limit == 0 { limits::DEFAULT_PAGE } else { query.limit } as usize;
        let depth = if query.depth == 0 { u32::MAX } else { query.depth };
        let mut lineage = Lineage::default();
        let mut seen: HashMap<BatchId, u32> = HashMap::from([(query.id.clone(), 0)]);
        let mut next = VecDeque::from([query.id.clone()]);
        while let Some(id) = next.pop_front() {
            let at = seen.get(&id).copied().unwrap_or(0);
            // One more than fits tells that there is more.
            let most = MAX_LINEAGE_LINKS + 1 - lineage.links.len();
            let mut near = match query.direction {
                Direction::Ancestors => self.ancestors(&id, most),
                Direction::Descendants => self.descendants(&id, most),
            };
            near.sort_unstable();
            near.dedup();
            if at >= depth {
                lineage.truncated |= !near.is_empty();
                continue;
            }
            for other in near {
                if !seen.contains_key(&other) {
                    if lineage.nodes.len() == limit {
                        lineage.truncated = true;
                        continue;
                    }
                    seen.insert(other.clone(), at + 1);
                    lineage.nodes.push(self.node(&other, at + 1));
                    next.push_back(other.clone());
                }
                if lineage.links.len() == MAX_LINEAGE_LINKS {
                    lineage.truncated = true;
                    continue;
                }
                let (parent, child) = match query.direction {
                    Direction::Ancestors => (other, id.clone()),
                    Direction::Descendants => (id.clone(), other),
                };
                lineage.links.push(LineageLink { parent, child });
            }
        }
        Ok(lineage)
    }

    fn node(&self, id: &BatchId, depth: u32) -> LineageNode {
        let record = self.find_id(id).map(|slot| self.slab.get(slot));
        LineageNode {
            id: id.clone(),
            depth,
            state: record.map(|record| record.state),
            queue: record.map(|record| self.queues.get(record.queue).name.to_string()),
        }
    }
}
