//! What of a queue can be given out, and whose turn it is.
//!
//! Within one priority the tenants take turns in the order of their names: the
//! next is the first one with work after the one that was served last, round
//! and round, whatever each has waiting. Of a tenant's own batches the oldest
//! goes first. Whose turn it is is stored with the queue, so that a restarted
//! or another engine on the same records goes on alike.
//!
//! A tenant that has as many leases as it may is out of the ring until one
//! ends; a claim never looks at it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque, btree_map};
use std::iter::Chain;
use std::ops::Bound;
use std::sync::Arc;

/// Highest first.
pub(super) type Level = Reverse<i32>;

/// A pending batch in the order in which it would be given out.
pub(super) type Candidate = (Level, u64, u32);

/// The tenants of one priority.
#[derive(Default)]
struct Ring {
    /// With work and free to take it, by name.
    open: BTreeMap<Arc<str>, u32>,
    /// With work, free or not.
    tenants: usize,
    /// Who was served last, once several waited.
    turn: Option<Arc<str>>,
}

/// One tenant's part of the queue.
struct Backlog {
    name: Arc<str>,
    levels: BTreeMap<Level, BTreeMap<u64, u32>>,
    leased: u32,
}

/// See the module.
pub(super) struct Ready {
    tenants: HashMap<u32, Backlog>,
    rings: BTreeMap<Level, Ring>,
    /// Most leases of one tenant.
    cap: u32,
    pending: usize,
    /// Entries of all rings.
    open: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Ready {
            tenants: HashMap::new(),
            rings: BTreeMap::new(),
            cap: u32::MAX,
            pending: 0,
            open: 0,
        }
    }
}

impl Ready {
    fn backlog(&mut self, tenant: u32, name: &Arc<str>) -> &mut Backlog {
        self.tenants.entry(tenant).or_insert_with(|| Backlog {
            name: Arc::clone(name),
            levels: BTreeMap::new(),
            leased: 0,
        })
    }

    pub(super) fn add(&mut self, tenant: u32, name: &Arc<str>, level: Level, at: (u64, u32)) {
        let cap = self.cap;
        let backlog = self.backlog(tenant, name);
        let is_open = backlog.leased < cap;
        let batches = backlog.levels.entry(level).or_default();
        let is_first = batches.is_empty();
        batches.insert(at.0, at.1);
        self.pending += 1;
        if is_first {
            let ring = self.rings.entry(level).or_default();
            ring.tenants += 1;
            if is_open {
                ring.open.insert(Arc::clone(name), tenant);
                self.open += 1;
            }
        }
    }

    /// Whether a turn that is stored with the queue is gone with the batch.
    pub(super) fn remove(&mut self, tenant: u32, level: Level, sequence: u64) -> bool {
        let Some(backlog) = self.tenants.get_mut(&tenant) else { return false };
        let Some(batches) = backlog.levels.get_mut(&level) else { return false };
        if batches.remove(&sequence).is_some() {
            self.pending -= 1;
        }
        if !batches.is_empty() {
            return false;
        }
        backlog.levels.remove(&level);
        let name = Arc::clone(&backlog.name);
        if backlog.levels.is_empty() && backlog.leased == 0 {
            self.tenants.remove(&tenant);
        }
        let Some(ring) = self.rings.get_mut(&level) else { return false };
        self.open -= usize::from(ring.open.remove(&name).is_some());
        ring.tenants -= 1;
        if ring.tenants > 0 {
            return false;
        }
        self.rings.remove(&level).is_some_and(|ring| ring.turn.is_some())
    }

    /// One more batch of the tenant is under lease, or one less.
    pub(super) fn lease(&mut self, tenant: u32, name: &Arc<str>, more: bool) {
        let cap = self.cap;
        let backlog = self.backlog(tenant, name);
        let was_open = backlog.leased < cap;
        backlog.leased =
            if more { backlog.leased.saturating_add(1) } else { backlog.leased.saturating_sub(1) };
        let is_open = backlog.leased < cap;
        if was_open != is_open {
            self.turn_over(tenant, is_open);
        } else if backlog.leased == 0 && backlog.levels.is_empty() {
            self.tenants.remove(&tenant);
        }
    }

    /// Enters a tenant into the rings of its priorities, or takes it out.
    fn turn_over(&mut self, tenant: u32, is_open: bool) {
        let Some(backlog) = self.tenants.get(&tenant) else { return };
        for level in backlog.levels.keys() {
            let Some(ring) = self.rings.get_mut(level) else { continue };
            if is_open {
                let new = ring.open.insert(Arc::clone(&backlog.name), tenant).is_none();
                self.open += usize::from(new);
            } else {
                self.open -= usize::from(ring.open.remove(&backlog.name).is_some());
            }
        }
        if backlog.levels.is_empty() && backlog.leased == 0 {
            self.tenants.remove(&tenant);
        }
    }

    /// Another cap: every tenant is looked at once.
    pub(super) fn set_cap(&mut self, cap: Option<u32>) {
        self.cap = cap.unwrap_or(u32::MAX);
        let all: Vec<(u32, bool)> = self
            .tenants
            .iter()
            .map(|(tenant, backlog)| (*tenant, backlog.leased < self.cap))
            .collect();
        for (tenant, is_open) in all {
            self.turn_over(tenant, is_open);
        }
    }

    /// How many leases more the tenant may have.
    pub(super) fn room_of(&self, tenant: u32) -> u32 {
        self.tenants
            .get(&tenant)
            .map_or(self.cap, |backlog| self.cap.saturating_sub(backlog.leased))
    }

    /// The tenant is served; whether a turn that is to be stored is another now.
    pub(super) fn serve(&mut self, tenant: u32, level: Level) -> bool {
        let Some(ring) = self.rings.get_mut(&level) else { return false };
        if ring.tenants == 1 && ring.turn.is_none() {
            return false;
        }
        let Some(backlog) = self.tenants.get(&tenant) else { return false };
        if ring.turn.as_ref() == Some(&backlog.name) {
            return false;
        }
        ring.turn = Some(Arc::clone(&backlog.name));
        true
    }

    /// Who was served last, by priority, where it matters.
    pub(super) fn turns(&self) -> impl Iterator<Item = (i32, &Arc<str>)> + '_ {
        self.rings.iter().filter_map(|(level, ring)| Some((level.0, ring.turn.as_ref()?)))
    }

    /// Sets a turn as it was stored; where nothing waits it does not matter.
    pub(super) fn set_turn(&mut self, priority: i32, tenant: Option<&str>) {
        if let Some(ring) = self.rings.get_mut(&Reverse(priority)) {
            ring.turn = tenant.map(Arc::from);
        }
    }

    /// Pending batches, of tenants at their cap too.
    pub(super) fn len(&self) -> usize {
        self.pending
    }

    /// Whether some tenant may be given something.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// The oldest batch of each tenant and priority.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let levels = self.tenants.values().flat_map(|backlog| backlog.levels.values());
        levels.filter_map(|batches| batches.first_key_value().map(|(at, slot)| (*at, *slot)))
    }

    /// Pending batches in the order in which they are given out.
    pub(super) fn in_order(&self) -> InOrder<'_> {
        InOrder { ready: self, rings: self.rings.iter(), round: None, given: HashMap::new() }
    }
}

type Names<'a> = btree_map::Range<'a, Arc<str>, u32>;

/// One ring, round and round.
struct Round<'a> {
    level: Level,
    /// Tenants that had no turn yet.
    fresh: Chain<Names<'a>, Names<'a>>,
    going: VecDeque<(u32, btree_map::Iter<'a, u64, u32>)>,
}

/// See [`Ready::in_order`].
pub(super) struct InOrder<'a> {
    ready: &'a Ready,
    rings: btree_map::Iter<'a, Level, Ring>,
    round: Option<Round<'a>>,
    /// How many each tenant was given, where they are capped.
    given: HashMap<u32, u32>,
}

impl<'a> InOrder<'a> {
    fn next_ring(&mut self) -> Option<Round<'a>> {
        let (level, ring) = self.rings.next()?;
        let (after, until) = match &ring.turn {
            Some(turn) => (Bound::Excluded(&**turn), Bound::Included(&**turn)),
            None => (Bound::Unbounded, Bound::Excluded("")),
        };
        let first = ring.open.range::<str, _>((after, Bound::Unbounded));
        let second = ring.open.range::<str, _>((Bound::Unbounded, until));
        Some(Round { level: *level, fresh: first.chain(second), going: VecDeque::new() })
    }

    /// Whether the tenant may have one more; it then has it.
    fn give(&mut self, tenant: u32) -> bool {
        if self.ready.cap == u32::MAX {
            return true;
        }
        let given = self.given.entry(tenant).or_default();
        *given += 1;
        *given <= self.ready.room_of(tenant)
    }
}

impl Iterator for InOrder<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            let mut round = match self.round.take() {
                Some(round) => round,
                None => self.next_ring()?,
            };
            let next = match round.fresh.next() {
                Some((_, tenant)) => {
                    let backlog = self.ready.tenants.get(tenant);
                    let batches = backlog.and_then(|backlog| backlog.levels.get(&round.level));
                    batches.map(|batches| (*tenant, batches.iter()))
                }
                None => match round.going.pop_front() {
                    // The ring is served.
                    None => continue,
                    going => going,
                },
            };
            let level = round.level;
            let mut found = None;
            if let Some((tenant, mut batches)) = next
                && let Some((sequence, slot)) = batches.next()
                && self.give(tenant)
            {
                found = Some((level, *sequence, *slot));
                round.going.push_back((tenant, batches));
            }
            self.round = Some(round);
            if found.is_some() {
                return found;
            }
        }
    }
}
