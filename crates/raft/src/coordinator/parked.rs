//! Claims that wait for work on the leader, first come first served.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sheaf_coordinator::engine::Engine;
use sheaf_coordinator::{Claim, ClaimRequest, DEFAULT_QUEUE};

use super::command::Answer;
use super::item::{Item, Waiting};

/// See the module.
pub(super) struct Parking {
    all: VecDeque<(Waiting, Item)>,
    limit: usize,
}

impl Parking {
    pub(super) fn new(limit: usize) -> Self {
        Parking { all: VecDeque::new(), limit }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Keeps a claim, or gives it back where too many wait.
    pub(super) fn add(&mut self, waiting: Waiting, item: Item) -> Option<Item> {
        if self.all.len() >= self.limit {
            self.all.retain(|(_, item)| !item.is_gone());
        }
        if self.all.len() >= self.limit {
            return Some(item);
        }
        self.all.push_back((waiting, item));
        None
    }

    /// Takes out those that the engine has work for, as many as it goes round for: one
    /// batch does not make a command of every claim that waits. And those that have leases, from
    /// a leader before this one.
    pub(super) fn take(&mut self, engine: &Engine) -> Vec<(Waiting, Item)> {
        let mut promised: BTreeMap<String, usize> = BTreeMap::new();
        let mut taken = Vec::new();
        let mut left = VecDeque::with_capacity(self.all.len());
        for (waiting, item) in self.all.drain(..) {
            if item.is_gone() {
                continue;
            }
            let request = &waiting.request;
            if engine.holds(request) {
                taken.push((waiting, item));
            } else if engine.has_work(request) && is_left(engine, request, &promised) {
                for queue in queues(request) {
                    *promised.entry(queue).or_default() += request.max as usize;
                }
                taken.push((waiting, item));
            } else {
                left.push_back((waiting, item));
            }
        }
        self.all = left;
        taken
    }

    /// Ends those that have waited long enough, and those that gave up. Those that have leases
    /// stay; whether there are some.
    pub(super) fn expire(&mut self, elapsed: Duration, engine: &Engine) -> bool {
        let mut holds = false;
        let mut left = VecDeque::with_capacity(self.all.len());
        for (waiting, item) in self.all.drain(..) {
            if item.is_gone() {
                continue;
            }
            let is_over = waiting.until <= elapsed;
            if is_over && !engine.holds(&waiting.request) {
                item.answer(Ok(Answer::Claimed(Claim { now: engine.now(), ..Claim::default() })));
            } else {
                holds |= is_over;
                left.push_back((waiting, item));
            }
        }
        self.all = left;
        holds
    }

    pub(super) fn next_end(&self) -> Option<Duration> {
        self.all.iter().map(|(waiting, _)| waiting.until).min()
    }

    /// Takes out all of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Waiting, Item)> {
        self.all.drain(..)
    }
}

fn queues(request: &ClaimRequest) -> Vec<String> {
    if !request.ids.is_empty() {
        // What is asked for by name is given to nobody else here.
        return Vec::new();
    }
    if request.queues.is_empty() {
        return vec![DEFAULT_QUEUE.to_owned()];
    }
    request.queues.clone()
}

fn is_left(engine: &Engine, request: &ClaimRequest, promised: &BTreeMap<String, usize>) -> bool {
    let names = queues(request);
    let taken: usize = names.iter().filter_map(|queue| promised.get(queue)).sum();
    taken == 0 || engine.work_for(request) > taken
}
