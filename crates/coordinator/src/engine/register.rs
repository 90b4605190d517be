//! Registration.

use std::collections::{BTreeMap, HashMap, HashSet};

use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use super::Engine;
use super::record::{Record, Waits};
use crate::contract::Error;
use crate::limits::{self, MAX_DEPENDENCIES, MAX_ITEMS, MAX_LOCATIONS, at_most};
use crate::model::{BatchSpec, OnParentFailure, State};
use crate::request::{Position, Registered};

impl Engine {
    /// Registers batches, all or none; a batch that is there with the same
    /// content is answered with its state and `created: false`.
    ///
    /// # Errors
    /// `Invalid` (also for dependencies that go round), `Limit`, `Conflict`,
    /// `Draining`, `Precondition` where it depends on a batch that is not
    /// registered, `Unavailable` where too many batches are live, `Full` where
    /// their payloads are too large. Nothing has then changed.
    pub fn register(
        &mut self,
        specs: &[BatchSpec],
        now: Timestamp,
    ) -> Result<Vec<Registered>, Error> {
        at_most("batches", specs.len(), MAX_ITEMS)?;
        specs.iter().try_for_each(limits::spec)?;
        self.admit(specs.iter(), true)?;
        let now = self.advance(now);
        let mut entry = Entry::default();
        let registered = specs.iter().map(|spec| self.enter(spec, now, &mut entry));
        let mut registered = registered.collect::<Result<Vec<_>, _>>()?;
        if self.finish_entry(entry, now) {
            for one in &mut registered {
                if let Some(slot) = self.find_id(&one.id) {
                    one.state = self.slab.get(slot).state;
                }
            }
        }
        Ok(registered)
    }

    /// Whether all of these can be registered; changes nothing. What is made
    /// of other batches (`derived`) is taken by draining queues too, and
    /// whatever its bytes: the work that it comes from could not end otherwise.
    pub(super) fn admit<'a>(
        &self,
        specs: impl Iterator<Item = &'a BatchSpec>,
        is_first_hand: bool,
    ) -> Result<(), Error> {
        let now = self.now;
        let mut call = Admission::default();
        for spec in specs {
            let earlier = match self.find_id(&spec.id) {
                Some(slot) => {
                    let record = self.slab.get(slot);
                    Some(record.spec(&self.queues.get(record.queue).name))
                }
                None => call.new.get(&spec.id).map(|spec| (*spec).clone()),
            };
            if let Some(earlier) = earlier {
                if let Some(conflict) = earlier.conflict(spec) {
                    return Err(conflict);
                }
                continue;
            }
            let name = limits::queue(&spec.queue)?;
            if self.first_of(spec, now).is_some() || !call.is_first(name, spec) {
                call.aliases.insert(&spec.id);
                continue;
            }
            call.new.insert(&spec.id, spec);
            match self.queues.find(name) {
                Some(queue) if is_first_hand && self.queues.get(queue).draining => {
                    return Err(Error::Draining { queue: name.to_owned() });
                }
                None if !call.bytes.contains_key(name) => {
                    call.queues += 1;
                    self.queues.room_for(call.queues)?;
                }
                _ => {}
            }
            let bytes = call.bytes.entry(name).or_default();
            *bytes = bytes.saturating_add(spec.bytes);
            call.dependencies += spec.depends_on.len();
        }
        self.room_for(&call)?;
        if is_first_hand {
            self.room_for_bytes(&call)?;
        }
        self.dependencies_fit(&call)
    }

    fn room_for(&self, call: &Admission<'_>) -> Result<(), Error> {
        let more = call.new.len();
        let live = (self.slab.len() - self.terminal + more) as u64;
        let over = |what: &str, actual: u64, limit: u64| {
            let problem = format!("holds {actual} {what}, over its limit of {limit}");
            Err(Error::Unavailable { problem, code: Code::Overloaded })
        };
        // Slots are numbered with 32 bits, terminal batches included.
        if live > self.config.max_live || self.slab.len() + more >= u32::MAX as usize {
            return over("live batches", live, self.config.max_live);
        }
        let keys = self.key_times.len() + call.keys.len();
        if !call.keys.is_empty() && keys > self.config.max_keys {
            return over("dedup keys", keys as u64, self.config.max_keys as u64);
        }
        at_most("depends_on", call.dependencies, MAX_DEPENDENCIES)?;
        let edges = self.edges.len() + call.dependencies;
        if call.dependencies > 0 && edges > self.config.max_dependencies {
            return over("dependencies", edges as u64, self.config.max_dependencies as u64);
        }
        Ok(())
    }

    /// Payloads that alone are over a limit are refused for good, others until
    /// work makes room.
    fn room_for_bytes(&self, call: &Admission<'_>) -> Result<(), Error> {
        let fits = |holder: &dyn Fn() -> String, live: u128, more: u64, limit: u64| {
            let live = u64::try_from(live).unwrap_or(u64::MAX);
            if more == 0 || live.saturating_add(more) <= limit {
                return Ok(());
            }
            if more > limit {
                return Err(Error::Limit { field: "bytes", actual: more, limit });
            }
            Err(Error::Full { holder: holder(), live, more, limit })
        };
        let all = call.bytes.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let whole = || "the coordinator".to_owned();
        fits(&whole, self.live_bytes, all, self.config.max_live_bytes)?;
        for (name, more) in &call.bytes {
            let Some(queue) = self.queues.find(name).map(|number| self.queues.get(number)) else {
                continue;
            };
            if let Some(limit) = queue.policy.max_live_bytes {
                fits(&|| format!("queue {name:?}"), queue.live_bytes, *more, limit)?;
            }
        }
        Ok(())
    }

    /// Every batch that one depends on is there or comes with it, and none
    /// depends on itself over others.
    fn dependencies_fit(&self, call: &Admission<'_>) -> Result<(), Error> {
        if call.dependencies == 0 {
            return Ok(());
        }
        let mut open: HashMap<&BatchId, usize> = HashMap::new();
        let mut children: HashMap<&BatchId, Vec<&BatchId>> = HashMap::new();
        for (id, spec) in &call.new {
            let mut count = 0;
            for parent in &spec.depends_on {
                if call.new.contains_key(parent) {
                    count += 1;
                    children.entry(parent).or_default().push(id);
                } else if !call.aliases.contains(parent) && self.find_id(parent).is_none() {
                    let problem = format!(
                        "depends on {parent}, which is not registered; register it first or in the same call"
                    );
                    return Err(Error::Precondition { id: id.to_string(), problem });
                }
            }
            open.insert(id, count);
        }
        let mut free: Vec<&BatchId> =
            open.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        while let Some(id) = free.pop() {
            open.remove(id);
            for child in children.get(id).into_iter().flatten() {
                if let Some(count) = open.get_mut(child) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(child);
                    }
                }
            }
        }
        let Some(id) = open.keys().min() else { return Ok(()) };
        let problem = format!("batch {id} would wait for itself, directly or through others");
        Err(Error::Invalid { field: "depends_on", problem })
    }

    /// Registers one batch that was admitted; [`Engine::finish_entry`] must follow.
    pub(super) fn enter(
        &mut self,
        spec: &BatchSpec,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<Registered, Error> {
        if let Some(slot) = self.find_id(&spec.id) {
            self.add_locations(slot, &spec.locations);
            let state = self.slab.get(slot).state;
            let position = self.position(slot);
            return Ok(Registered { id: spec.id.clone(), state, created: false, position });
        }
        if let Some(slot) = self.first_of(spec, now) {
            let record = self.slab.get(slot);
            let id = record.batch_id();
            entry.aliases.insert(spec.id.clone(), id.clone());
            let (state, position) = (record.state, self.position(slot));
            return Ok(Registered { id, state, created: false, position });
        }
        let queue = self.queues.ensure(limits::queue(&spec.queue)?)?;
        let mut record = Record::new(spec, queue, self.next_sequence, now);
        if let Some(after) = spec.expires_after {
            record.expires_at = now.plus(after).as_micros();
        }
        if spec.depends_on.iter().any(|parent| !self.has_completed(parent)) {
            record.state = State::Waiting;
        } else if !spec.delay.is_zero() {
            record.state = State::Scheduled;
            record.at = now.plus(spec.delay).as_micros();
        }
        let state = record.state;
        let slot = self.insert(record, &spec.tenant);
        self.note(slot, None, None);
        if state == State::Waiting {
            entry.waiting.push((slot, spec.depends_on.clone(), spec.on_parent_failure));
        }
        let position = self.position(slot);
        Ok(Registered { id: spec.id.clone(), state, created: true, position })
    }

    fn position(&self, slot: u32) -> Position {
        Position { run: self.run, sequence: self.slab.get(slot).sequence }
    }

    /// One payload may be in several places: whoever says where it is besides
    /// is believed as the first one was. Where the batch names none, the store
    /// beside the coordinator has it, and stays the one that is asked.
    fn add_locations(&mut self, slot: u32, locations: &[String]) {
        let record = self.slab.get(slot);
        if record.state.is_terminal() || record.home == 0 {
            return;
        }
        let known = record.locations();
        let new = locations.iter().filter(|location| !known.contains(location));
        let mut places: Vec<String> = new.cloned().collect();
        if !places.is_empty() {
            // The newest first: a server that has moved is found at once, and
            // its old address falls out in the end.
            places.extend(known);
            places.truncate(MAX_LOCATIONS);
            self.change(slot, |record| record.set_locations(places));
        }
    }

    fn has_completed(&self, id: &BatchId) -> bool {
        self.find_id(id).is_some_and(|slot| self.slab.get(slot).state == State::Completed)
    }

    /// Ties batches to those that they depend on, now that all are there;
    /// whether there were any.
    pub(super) fn finish_entry(&mut self, entry: Entry, now: Timestamp) -> bool {
        let Entry { waiting, aliases } = entry;
        let any = !waiting.is_empty();
        for (slot, parents, on) in waiting {
            let parents = parents.iter().map(|id| aliases.get(id).unwrap_or(id));
            let unmet = self.unmet(parents);
            self.wait_for(slot, Waits { on, unmet }, now);
        }
        if any {
            self.propagate(now);
        }
        any
    }

    /// Sequence numbers of those that are there and have not completed.
    pub(super) fn unmet<'a>(&self, parents: impl Iterator<Item = &'a BatchId>) -> Vec<u64> {
        let records = parents.filter_map(|id| Some(self.slab.get(self.find_id(id)?)));
        let open = records.filter(|record| record.state != State::Completed);
        let mut unmet: Vec<u64> = open.map(|record| record.sequence).collect();
        unmet.sort_unstable();
        unmet.dedup();
        unmet
    }
}

/// What one call registers and could be too much.
#[derive(Default)]
struct Admission<'a> {
    /// In order, as the queues are: which of several errors is told is the same
    /// in every engine.
    new: BTreeMap<&'a BatchId, &'a BatchSpec>,
    /// Those that a dedup key makes another batch.
    aliases: HashSet<&'a BatchId>,
    keys: HashSet<(&'a str, &'a str, &'a str)>,
    bytes: BTreeMap<&'a str, u64>,
    queues: usize,
    dependencies: usize,
}

impl<'a> Admission<'a> {
    /// Whether no other batch of this call has its key.
    fn is_first(&mut self, queue: &'a str, spec: &'a BatchSpec) -> bool {
        spec.dedup_key.is_empty() || self.keys.insert((queue, &spec.tenant, &spec.dedup_key))
    }
}

/// What is left to do when all batches of a call are entered.
#[derive(Default)]
pub(super) struct Entry {
    waiting: Vec<(u32, Vec<BatchId>, OnParentFailure)>,
    /// Identifiers that a dedup key made another batch's.
    aliases: HashMap<BatchId, BatchId>,
}
