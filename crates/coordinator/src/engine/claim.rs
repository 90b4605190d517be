//! Claiming.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;

use sheaf_retry::Timestamp;

use super::Engine;
use super::ready::{Candidate, InOrder};
use super::record::{Held, location_bits};
use crate::contract::Error;
use crate::limits;
use crate::model::{DEFAULT_QUEUE, State};
use crate::request::{Claim, ClaimRequest};

/// How far a claim looks beyond what it takes for payloads near the caller.
const LOOK_AHEAD: usize = 64;

impl Engine {
    /// Takes batches under lease; an empty claim where there is nothing.
    ///
    /// The same worker with the same request id gets the leases that it has
    /// from that request, as long as one of them stands.
    ///
    /// # Errors
    /// `Invalid` and `Limit`; nothing has then changed.
    pub fn claim(&mut self, request: &ClaimRequest, now: Timestamp) -> Result<Claim, Error> {
        limits::claim(request)?;
        let now = self.advance(now);
        Ok(self.take(request, now))
    }

    /// Whether a claim could be answered with work now.
    pub fn has_work(&self, request: &ClaimRequest) -> bool {
        if request.ids.is_empty() {
            return self
                .open_queues(request)
                .iter()
                .any(|queue| self.queues.get(*queue).has_work(self.now));
        }
        request.ids.iter().any(|id| self.find_id(id).is_some_and(|slot| self.claimable(slot)))
    }

    /// Whether the request was answered with leases of which some stand.
    pub fn holds(&self, request: &ClaimRequest) -> bool {
        !self.held_by(request, self.now).is_empty()
    }

    /// How many batches the queues of a request could give out now, tenants at
    /// their cap not taken off.
    pub fn work_for(&self, request: &ClaimRequest) -> usize {
        if !request.ids.is_empty() {
            return request.ids.len();
        }
        let queues = self.open_queues(request);
        let open = queues.iter().map(|queue| self.queues.get(*queue));
        open.map(|queue| queue.ready.len().min(queue.room(self.now))).sum()
    }

    /// A claim that was checked.

    pub(super) fn take(&mut self, request: &ClaimRequest, now: Timestamp) -> Claim {
        let mut slots = self.held_by(request, now);
        if slots.is_empty() {
            slots = if request.ids.is_empty() { self.select(request) } else { self.named(request) };
            let worker: Arc<str> = request.worker.as_str().into();
            let name: Arc<str> = request.request_id.as_str().into();
            let in_turn = request.ids.is_empty();
            for slot in &slots {
                self.count_out(*slot, in_turn, now);
                self.lend(*slot, request, &worker, &name, now);
            }
        }
        let leases = slots.iter().map(|slot| {
            let record = self.slab.get(*slot);
            record.lease(&self.queues.get(record.queue).name)
        });
        Claim { leases: leases.collect(), now, next_due: self.next_due(request) }
    }

    /// The leases that an earlier claim of that name got, as far as they stand.
    fn held_by(&self, request: &ClaimRequest, now: Timestamp) -> Vec<u32> {
        let key = self.request_key(&request.worker, &request.request_id);
        let Some(slots) = self.requests.get(&key) else { return Vec::new() };
        let mut standing: Vec<u32> = slots
            .iter()
            .copied()
            .filter(|slot| {
                self.slab.get(*slot).lease.as_ref().is_some_and(|held| {
                    *held.worker == *request.worker
                        && *held.request == *request.request_id
                        && held.deadline > now.as_micros()
                })
            })
            .collect();
        standing.sort_by_key(|slot| {
            let record = self.slab.get(*slot);
            (Reverse(record.priority), record.sequence)
        });
        standing
    }

    /// Takes a token where the queue has a rate, and notes whose turn it was.
    fn count_out(&mut self, slot: u32, in_turn: bool, now: Timestamp) {
        let record = self.slab.get(slot);
        let number = record.queue;
        let queue = self.queues.get_mut(number);
        if in_turn {
            queue.dirty |= queue.ready.serve(record.tenant, Reverse(record.priority));
        }
        let Some(bucket) = &mut queue.bucket else { return };
        bucket.take(now);
        queue.dirty = true;
        if bucket.tokens(now) == 0 {
            self.throttle(number);
        }
    }

    /// Nothing was done for the token that a lease took.
    pub(super) fn give_back(&mut self, number: u32) {
        let queue = self.queues.get_mut(number);
        let Some(bucket) = &mut queue.bucket else { return };
        bucket.give_back();
        queue.dirty = true;
        self.ready |= queue.ready.len() > 0;
        if queue.throttled_until > 0 {
            self.throttle(number);
        }
    }

    /// Sees to it that waiting claims are tried again when a token is there.
    pub(super) fn throttle(&mut self, number: u32) {
        let queue = self.queues.get_mut(number);
        self.throttled.remove(&(queue.throttled_until, number));
        queue.throttled_until = 0;
        if let Some(bucket) = &queue.bucket {
            queue.throttled_until = bucket.next().max(1);
            self.throttled.insert((queue.throttled_until, number));
        }
    }

    fn lend(
        &mut self,
        slot: u32,
        request: &ClaimRequest,
        worker: &Arc<str>,
        name: &Arc<str>,
        now: Timestamp,
    ) {
        let fence = self.fences.next(now);
        let since = Timestamp::from_micros(self.slab.get(slot).updated_at);
        self.effects.waited.push(now.since(since));
        self.change(slot, |record| {
            record.state = State::Processing;
            record.last_fence = fence;
            record.expires_at = 0;
            if let Some(extra) = record.extra.as_deref_mut() {
                extra.progress = None;
            }
            record.lease = Some(Box::new(Held {
                worker: Arc::clone(worker),
                request: Arc::clone(name),
                deadline: now.plus(request.lease).as_micros(),
                claimed_at: now.as_micros(),
                duration: request.lease,
                started: false,
            }));
            if request.start {
                record.start(now);
            }
        });
    }

    /// Queues of the request that exist and are not paused.
    fn open_queues(&self, request: &ClaimRequest) -> Vec<u32> {
        let default = [DEFAULT_QUEUE.to_owned()];
        let names = if request.queues.is_empty() { &default[..] } else { &request.queues };
        let mut queues: Vec<u32> = names
            .iter()
            .filter_map(|name| self.queues.find(limits::queue(name).ok()?))
            .filter(|queue| !self.queues.get(*queue).paused)
            .collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    fn claimable(&self, slot: u32) -> bool {
        let record = self.slab.get(slot);
        let queue = self.queues.get(record.queue);
        record.state == State::Pending
            && queue.room(self.now) > 0
            && queue.ready.room_of(record.tenant) > 0
    }

    fn named(&self, request: &ClaimRequest) -> Vec<u32> {
        let found = request.ids.iter().filter_map(|id| self.find_id(id));
        let mut slots: Vec<Candidate> = found
            .filter(|slot| self.claimable(*slot))
            .map(|slot| {
                let record = self.slab.get(slot);
                (Reverse(record.priority), record.sequence, slot)
            })
            .collect();
        slots.sort_unstable();
        slots.dedup();
        // Limits hold for them as for any.
        let mut left: HashMap<u32, usize> = HashMap::new();
        let mut left_of: HashMap<(u32, u32), u32> = HashMap::new();
        let fits = |slot: &u32| {
            let record = self.slab.get(*slot);
            let queue = self.queues.get(record.queue);
            let left = left.entry(record.queue).or_insert_with(|| queue.room(self.now));
            let of_tenant = left_of
                .entry((record.queue, record.tenant))
                .or_insert_with(|| queue.ready.room_of(record.tenant));
            let fits = *left > 0 && *of_tenant > 0;
            if fits {
                (*left, *of_tenant) = (*left - 1, *of_tenant - 1);
            }
            fits
        };
        slots.into_iter().map(|(_, _, slot)| slot).filter(fits).collect()
    }

    fn select(&self, request: &ClaimRequest) -> Vec<u32> {
        let want = request.max as usize;
        let queues = self.open_queues(request);
        let mut heads: Vec<Peekable<_>> = queues.iter().map(|queue| self.heads(*queue)).collect();
        let look = if request.locations.is_empty() { want } else { want + LOOK_AHEAD };
        let mut candidates: Vec<Candidate> = Vec::with_capacity(look.min(LOOK_AHEAD * 2));
        while candidates.len() < look {
            let best = heads
                .iter_mut()
                .filter_map(|head| head.peek().copied().map(|candidate| (candidate, head)))
                .min_by_key(|(candidate, _)| *candidate);
            let Some((candidate, head)) = best else { break };
            candidates.push(candidate);
            head.next();
        }
        if !request.locations.is_empty() {
            let bits = location_bits(&request.locations);
            // Stable: within one priority near ones go first, each kind by age.
            candidates.sort_by_key(|(priority, _, slot)| (*priority, !self.is_near(*slot, bits)));
        }
        self.within_bounds(request, candidates, want)
    }

    /// What a queue gives out now, in order.
    fn heads(&self, queue: u32) -> Peekable<std::iter::Take<InOrder<'_>>> {
        let queue = self.queues.get(queue);
        queue.ready.in_order().take(queue.room(self.now)).peekable()
    }

    fn within_bounds(
        &self,
        request: &ClaimRequest,
        candidates: Vec<Candidate>,
        want: usize,
    ) -> Vec<u32> {
        let bound = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let (max_bytes, max_rows) = (bound(request.max_bytes), bound(request.max_rows));
        let (mut bytes, mut rows) = (0_u64, 0_u64);
        let mut first = true;
        let fits = |(_, _, slot): &Candidate| {
            let record = self.slab.get(*slot);
            bytes = bytes.saturating_add(record.bytes);
            rows = rows.saturating_add(record.rows);
            std::mem::take(&mut first) || (bytes <= max_bytes && rows <= max_rows)
        };
        candidates.into_iter().take(want).take_while(fits).map(|(_, _, slot)| slot).collect()
    }

    /// Its payload is at one of these locations, or it waited long enough
    /// that it no longer matters.
    fn is_near(&self, slot: u32, bits: u64) -> bool {
        let record = self.slab.get(slot);
        let waited = self.now.since(Timestamp::from_micros(record.updated_at));
        record.home & bits != 0 || waited >= self.config.locality_wait
    }

    fn next_due(&self, request: &ClaimRequest) -> Option<Timestamp> {
        let first = |queue: &u32| self.queues.get(*queue).due.first().map(|(at, _)| *at);
        let due = self.open_queues(request).iter().filter_map(first).min();
        due.map(Timestamp::from_micros)
    }
}
