//! Reading.

use sheaf_retry::Timestamp;

use super::Engine;
use super::queue::Queue;
use crate::contract::Error;
use crate::limits::{self, DEFAULT_PAGE, MAX_ITEMS, MAX_PAGE, at_most};
use crate::model::{DEFAULT_QUEUE, Fence, State};
use crate::request::{Answer, LeaseRef, ListFilter, Page, Query, QueueStats, Recovered, Standing};

impl Engine {
    /// Answers a question. A list looks at no more than `scan` batches: its
    /// page may be short or empty and still have a cursor to go on with.
    ///
    /// # Errors
    /// `Invalid` and `Limit`.
    pub fn query(&self, query: &Query, scan: usize) -> Result<Answer, Error> {
        Ok(match query {
            Query::Get(ids) => {
                at_most("ids", ids.len(), MAX_ITEMS)?;
                let slots = ids.iter().filter_map(|id| self.find_id(id));
                let batches = slots.map(|slot| self.batch(slot)).collect();
                Answer::Batches(Page { batches, next_cursor: String::new() })
            }
            Query::List(filter) => Answer::Batches(self.list(filter, scan)?),
            Query::Lineage(query) => Answer::Lineage(self.trace(query)?),
            Query::Stats(name) => Answer::Stats(self.stats(name.as_deref())?),
            Query::History => Answer::History(self.history()),
            Query::Recovery(leases) => {
                at_most("leases", leases.len(), MAX_ITEMS)?;
                Answer::Recovery(leases.iter().map(|lease| self.recover(lease)).collect())
            }
        })
    }

    fn batch(&self, slot: u32) -> crate::Batch {
        let record = self.slab.get(slot);
        record.batch(&self.queues.get(record.queue).name)
    }

    fn list(&self, filter: &ListFilter, scan: usize) -> Result<Page, Error> {
        at_most("limit", filter.limit as usize, MAX_PAGE as usize)?;
        let limit = if filter.limit == 0 { DEFAULT_PAGE } else { filter.limit } as usize;
        let after: u64 = match filter.cursor.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| Error::Invalid {
                field: "cursor",
                problem: format!("{text:?} is no cursor of this coordinator"),
            })?,
        };
        let queue = filter.queue.as_deref().map(|name| self.queues.find(name));
        let mut page = Page::default();
        let mut left = scan.max(1);
        let from = after.saturating_add(1);
        let in_order = || self.order.range(from..).map(|(sequence, slot)| (*sequence, *slot));
        // What was made from one batch is found without looking at all.
        let candidates: Box<dyn Iterator<Item = (u64, u32)>> = match &filter.parent {
            Some(parent) => Box::new(self.made_from(parent, from)),
            None => Box::new(in_order()),
        };
        let mut last = after;
        for (sequence, slot) in candidates {
            if left == 0 || page.batches.len() == limit {
                // More follows; whatever was looked at last is where to go on.
                page.next_cursor = last.to_string();
                break;
            }
            left -= 1;
            last = sequence;
            if self.selects(filter, queue, slot) {
                page.batches.push(self.batch(slot));
            }
        }
        Ok(page)
    }

    fn selects(&self, filter: &ListFilter, queue: Option<Option<u32>>, slot: u32) -> bool {
        let record = self.slab.get(slot);
        (filter.states.is_empty() || filter.states.contains(&record.state))
            && queue.is_none_or(|queue| queue == Some(record.queue))
            && record.id().starts_with(&filter.prefix)
            && filter.parent.as_ref().is_none_or(|id| record.spec("").parents.contains(id))
    }

    fn stats(&self, name: Option<&str>) -> Result<Vec<QueueStats>, Error> {
        if let Some(name) = name {
            let name = limits::queue(name)?;
            let queue = self.queues.find(name).map(|number| self.queues.get(number));
            return Ok(vec![queue.map_or_else(|| nothing(name), |queue| self.count(queue))]);
        }
        let mut all: Vec<QueueStats> = self.queues.iter().map(|queue| self.count(queue)).collect();
        if self.queues.find(DEFAULT_QUEUE).is_none() {
            all.push(nothing(DEFAULT_QUEUE));
            all.sort_by(|one, other| one.queue.cmp(&other.queue));
        }
        Ok(all)
    }

    fn count(&self, queue: &Queue) -> QueueStats {
        let oldest = queue.ready.firsts().min();
        let oldest =
            oldest.map(|(_, slot)| Timestamp::from_micros(self.slab.get(slot).registered_at));
        QueueStats {
            queue: queue.name.to_string(),
            paused: queue.paused,
            draining: queue.draining,
            policy: queue.policy.clone(),
            counts: State::ALL.iter().map(|s| (*s, queue.counts[*s as usize])).collect(),
            purged: queue.purged,
            live_rows: u64::try_from(queue.live_rows).unwrap_or(u64::MAX),
            live_bytes: u64::try_from(queue.live_bytes).unwrap_or(u64::MAX),
            oldest_pending_at: oldest,
        }
    }

    fn recover(&self, lease: &LeaseRef) -> Recovered {
        let slot = self.find_id(&lease.id);
        let standing = slot.map_or(Standing::NotFound, |slot| {
            let record = self.slab.get(slot);
            if record.standing(lease.fence, self.now).is_some() {
                Standing::Current
            } else if record.settled.is_some() && Fence(record.settled_fence) == lease.fence {
                Standing::Settled
            } else {
                Standing::Stale
            }
        });
        let state = slot.map(|slot| self.slab.get(slot).state);
        Recovered { id: lease.id.clone(), standing, state }
    }

    /// Every batch, in order of registration.
    pub fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        self.order.keys().copied()
    }

    /// Every queue.
    pub fn queue_names(&self) -> impl Iterator<Item = String> + '_ {
        self.queues.iter().map(|queue| queue.name.to_string())
    }

    /// How many batches are in each state, over all queues.
    pub fn totals(&self) -> [u64; State::ALL.len()] {
        let mut totals = [0; State::ALL.len()];
        for queue in self.queues.iter() {
            for (total, count) in totals.iter_mut().zip(queue.counts) {
                *total += count;
            }
        }
        totals
    }
}

fn nothing(name: &str) -> QueueStats {
    QueueStats {
        queue: name.to_owned(),
        counts: State::ALL.iter().map(|state| (*state, 0)).collect(),
        ..QueueStats::default()
    }
}
