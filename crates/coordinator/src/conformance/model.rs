//! The model that random runs are compared with: batches by name, and
//! everything by looking at all of them.

use std::collections::BTreeMap;

use super::turns::{self, Ready, Room};
use super::*;
use crate::model::OnParentFailure;
use crate::policy::QueuePolicy;

pub(super) const RETRIES: u32 = 2;

/// What the model knows of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) queue: usize,
    pub(super) tenant: String,
    pub(super) key: String,
    pub(super) depends_on: Vec<String>,
    pub(super) unmet: Vec<String>,
    pub(super) on: OnParentFailure,
    pub(super) priority: i32,
    pub(super) bytes: u64,
    pub(super) order: usize,
    pub(super) state: State,
    pub(super) attempts: u32,
    pub(super) lost: u32,
    pub(super) started: bool,
    pub(super) fence: Fence,
    /// End of the lease, or when it falls due.
    pub(super) at: Timestamp,
    pub(super) settled: Option<(Fence, Resolution)>,
}

impl Item {
    pub(super) fn end(&mut self, state: State) {
        self.state = state;
        self.started = false;
        self.unmet.clear();
    }

    pub(super) fn start(&mut self) {
        self.attempts += u32::from(!self.started);
        self.started = true;
    }
}

/// The model: batches by name, and everything by looking at all of them.
pub(super) struct Oracle {
    pub(super) items: BTreeMap<String, Item>,
    pub(super) paused: [bool; 2],
    pub(super) policy: [QueuePolicy; 2],
    /// Who was served last, by priority.
    pub(super) turns: [BTreeMap<i32, String>; 2],
    pub(super) now: Timestamp,
    pub(super) last_fence: Fence,
    pub(super) backoff: Duration,
    pub(super) lease: Duration,
}

impl Oracle {
    pub(super) fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        for item in self.items.values_mut().filter(|item| item.at <= self.now) {
            match item.state {
                State::Processing => {
                    item.lost += 1;
                    let used_up = item.started && item.attempts > RETRIES;
                    let failed = used_up || item.lost >= 10;
                    item.end(if failed { State::Failed } else { State::Pending });
                }
                State::Scheduled => item.state = State::Pending,
                _ => {}
            }
        }
    }

    pub(super) fn ready(&self, queue: usize) -> Vec<Ready> {
        let items = self.items.iter();
        let items = items.filter(|(_, item)| item.queue == queue && item.state == State::Pending);
        let ready = items.map(|(name, item)| Ready {
            name: name.clone(),
            priority: item.priority,
            tenant: item.tenant.clone(),
            order: item.order,
        });
        ready.collect()
    }

    /// What one queue gives, in order.
    pub(super) fn in_turn(&self, queue: usize) -> Vec<Ready> {
        if self.paused[queue] {
            return Vec::new();
        }
        let mut leased = BTreeMap::new();
        for item in self.items.values() {
            if item.queue == queue && item.state == State::Processing {
                *leased.entry(item.tenant.clone()).or_insert(0) += 1;
            }
        }
        let most = |cap: Option<u32>| cap.map_or(usize::MAX, |cap| cap as usize);
        let policy = &self.policy[queue];
        let all = most(policy.max_leased).saturating_sub(leased.values().sum());
        let room = Room { all, of_tenant: most(policy.max_leased_per_tenant), leased };
        turns::in_turn(self.ready(queue), &self.turns[queue], room)
    }

    /// What a claim must give, in order.
    pub(super) fn expected(&self, queues: &[usize], max: usize, max_bytes: u64) -> Vec<String> {
        let mut heads: Vec<_> =
            queues.iter().map(|queue| self.in_turn(*queue).into_iter().peekable()).collect();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while taken.len() < max {
            let best = heads
                .iter_mut()
                .filter_map(|head| {
                    let key = head.peek().map(|one| (-one.priority, one.order))?;
                    Some((key, head))
                })
                .min_by_key(|(key, _)| *key);
            let Some(one) = best.and_then(|(_, head)| head.next()) else { break };
            bytes += self.items[&one.name].bytes;
            if !taken.is_empty() && max_bytes > 0 && bytes > max_bytes {
                break;
            }
            taken.push(one.name);
        }
        taken
    }

    /// Notes whose turn it was, where others wait as well.
    pub(super) fn serve(&mut self, name: &str) {
        let item = &self.items[name];
        let (queue, priority) = (item.queue, item.priority);
        let tenant = item.tenant.clone();
        let others = self.ready(queue);
        let several = others.iter().any(|one| one.priority == priority && one.tenant != tenant);
        if several || self.turns[queue].contains_key(&priority) {
            self.turns[queue].insert(priority, tenant);
        }
    }

    /// What follows from the last call: those that wait are told, and turns
    /// that nobody waits for are over.
    pub(super) fn follow(&mut self) {
        let is_over = |item: &Item| item.state.is_terminal() && item.state != State::Completed;
        while let Some((name, parent, completed)) = self.items.iter().find_map(|(name, item)| {
            let waits = item.on == OnParentFailure::Wait;
            item.unmet.iter().find_map(|parent| {
                let state = &self.items[parent];
                let completed = state.state == State::Completed;
                let tells = completed || (is_over(state) && !waits);
                tells.then(|| (name.clone(), parent.clone(), completed))
            })
        }) {
            let Some(item) = self.items.get_mut(&name) else { return };
            item.unmet.retain(|other| *other != parent);
            match (completed, item.on) {
                (true, _) if item.unmet.is_empty() => item.end(State::Pending),
                (true, _) => {}
                (false, OnParentFailure::Cancel) => item.end(State::Cancelled),
                (false, _) => item.end(State::Failed),
            }
        }
        for queue in 0..2 {
            let ready = self.ready(queue);
            self.turns[queue]
                .retain(|priority, _| ready.iter().any(|one| one.priority == *priority));
        }
    }

    /// Those of them that have not completed.
    pub(super) fn open(&self, parents: &[String]) -> Vec<String> {
        let open = parents.iter().filter(|parent| self.items[*parent].state != State::Completed);
        open.cloned().collect()
    }

    pub(super) fn settle(
        &mut self,
        name: &str,
        fence: Fence,
        how: Resolution,
        permanent: bool,
    ) -> Verdict {
        let (now, backoff) = (self.now, self.backoff);
        let Some(item) = self.items.get_mut(name) else { return Verdict::NotFound };
        if item.state != State::Processing || item.fence != fence {
            let same = item.settled == Some((fence, how));
            return if same { Verdict::AlreadyDone } else { Verdict::Stale };
        }
        match how {
            Resolution::Completed => {
                item.start();
                item.end(State::Completed);
            }
            Resolution::Released => {
                item.attempts -= u32::from(item.started);
                item.end(State::Pending);
            }
            Resolution::Failed => {
                item.start();
                let last = permanent || item.attempts > RETRIES;
                let wait = if backoff.is_zero() { State::Pending } else { State::Scheduled };
                item.at = now.plus(backoff);
                item.end(if last { State::Failed } else { wait });
            }
        }
        item.settled = Some((fence, how));
        item.lost = 0;
        Verdict::Applied
    }
}
