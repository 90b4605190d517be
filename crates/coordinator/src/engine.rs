//! The pure engine: what becomes of batches, given calls and the time.
//!
//! No input or output, no clock, no threads: the same calls with the same
//! times give the same answers and the same state, so that one process can
//! feed it from a queue and another from a replicated log.
//!
//! After every group of calls the caller takes what changed with
//! [`Engine::take_effects`], stores it, and only then answers.
//!
//! ```
//! use sheaf_coordinator::engine::{Config, Engine};
//! use sheaf_coordinator::{BatchSpec, State};
//! use sheaf_retry::Timestamp;
//!
//! let mut engine = Engine::new(Config::default(), 1);
//! let now = Timestamp::from_millis(1_000);
//! let registered = engine.register(&[BatchSpec::new("orders:1".parse()?)], now)?;
//! assert_eq!(registered[0].state, State::Pending);
//! assert_eq!(engine.take_effects().written.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bucket;
mod claim;
mod codec;
mod control;
mod copy;
mod dedup;
mod depend;
mod fence;
mod index;
mod lineage;
mod query;
mod queue;
mod ready;
mod record;
mod register;
mod settle;
mod slab;
mod tenants;
mod tick;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, Timestamp};

pub use codec::{Damage, RECORD_VERSION};
pub(crate) use codec::{decode_record, seal_record};
pub use copy::{COPY_PER_CALL, CopyHead, CopyPart};
pub use dedup::FORGET_KEYS_PER_CALL;
pub use depend::PROPAGATE_PER_CALL;
pub use fence::{MAX_EPOCH, TIME_BITS as FENCE_TIME_BITS, hash as stable_hash};
pub use tick::{EXPIRE_PER_CALL, PROMOTE_PER_CALL, PURGE_PER_CALL, REAP_PER_CALL};

use crate::contract::Error;
use crate::model::{Fence, State};
use crate::request::{
    Change, Claim, ClaimRequest, Control, ControlReply, Extended, Extension, History, Registered,
    Run, SettleReply, SettleRequest,
};
use queue::Queues;
use record::Micros;
use slab::Slab;

/// What an engine is asked to do with every batch.
#[derive(Clone, Debug)]
pub struct Config {
    /// For batches that bring no policy.
    pub retry: RetryPolicy,
    /// Most batches that are not terminal; registrations beyond are refused
    /// as overloaded.
    pub max_live: u64,
    /// Most payload bytes of batches that are not terminal; registrations
    /// beyond are refused as overloaded.
    pub max_live_bytes: u64,
    /// Most dedup keys that are remembered, and most dependencies that are not
    /// yet fulfilled; registrations beyond are refused as overloaded.
    pub max_keys: usize,
    /// See `max_keys`.
    pub max_dependencies: usize,
    /// How long completed, cancelled and expired batches are remembered.
    pub keep_finished: Duration,
    /// How many of them at most; the oldest go first.
    pub max_finished: usize,
    /// How long failed batches are remembered.
    pub keep_failed: Duration,
    /// How many of them at most; the oldest go first.
    pub max_failed: usize,
    /// A batch pending for longer than this is given to anybody, as if its
    /// payload were near.
    pub locality_wait: Duration,
}

impl Default for Config {
    /// Three retries; 10,000,000 live batches of any size with 1,000,000 keys
    /// and 10,000,000 dependencies; finished ones for a day, a
    /// million at most; failed ones for 30 days, a million at most; 1 s of
    /// preference for near payloads.
    fn default() -> Self {
        Config {
            retry: RetryPolicy::default(),
            max_live: 10_000_000,
            max_live_bytes: u64::MAX,
            max_keys: 1_000_000,
            max_dependencies: 10_000_000,
            keep_finished: Duration::from_secs(24 * 3600),
            max_finished: 1_000_000,
            keep_failed: Duration::from_secs(30 * 24 * 3600),
            max_failed: 1_000_000,
            locality_wait: Duration::from_secs(1),
        }
    }
}

/// Runs that a history tells: who was away for longer registers again.
const MAX_RUNS: usize = 64;

/// One call, as a log entry carries it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// See [`Engine::register`].
    Register(Vec<crate::BatchSpec>),
    /// See [`Engine::claim`].
    Claim(ClaimRequest),
    /// See [`Engine::settle`].
    Settle(SettleRequest),
    /// See [`Engine::extend`].
    Extend(Vec<Extension>),
    /// See [`Engine::control`]; the number is where a step before ended.
    Control(Control, u64),
    /// Only what time brings about.
    Tick,
}

/// The answer to a [`Command`], of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Register`.
    Registered(Vec<Registered>),
    /// To `Claim`.
    Claimed(Claim),
    /// To `Settle`.
    Settled(SettleReply),
    /// To `Extend`.
    Extended(Vec<Extended>),
    /// To `Control`, with where to go on if it is not finished.
    Controlled(ControlReply, Option<u64>),
    /// To `Tick`.
    Ticked,
}

/// What must be stored before the calls since the last one are answered.
#[derive(Debug, Default)]
pub struct Effects {
    /// Sequence numbers of batches that are new or changed.
    pub written: Vec<u64>,
    /// Sequence numbers of batches that are gone.
    pub removed: Vec<u64>,
    /// Queues whose switches or counters changed.
    pub queues: Vec<String>,
    /// What observers are told; empty unless [`Engine::observe`] asked for it.
    pub changes: Vec<Change>,
    /// How many batches went into each state, in the order of [`State::ALL`].
    pub transitions: [u64; State::ALL.len()],
    /// How long each batch was pending that was claimed.
    pub waited: Vec<Duration>,
}

/// See the [module](self).
pub struct Engine {
    config: Config,
    now: Timestamp,
    fences: fence::Fences,
    next_sequence: u64,
    slab: Slab,
    ids: HashTable<u32>,
    hasher: RandomState,
    order: BTreeMap<u64, u32>,
    queues: Queues,
    tenants: tenants::Tenants,
    /// Terminal batches.
    terminal: usize,
    /// Payload bytes of the others.
    live_bytes: u128,
    /// What falls due, by time and sequence number: slots differ between engines
    /// of the same state, and where many are due at once their order shows.
    due: BTreeSet<(Micros, u64)>,
    deadlines: BTreeSet<(Micros, u64)>,
    expiry: BTreeSet<(Micros, u64)>,
    finished: BTreeSet<(Micros, u64)>,
    failed: BTreeSet<(Micros, u64)>,
    /// Queues that ran out of tokens, by when the next one is there.
    throttled: BTreeSet<(Micros, u32)>,
    /// Who waits for whom: what must complete, whether its failure is waited
    /// out, who waits; all by sequence number.
    edges: BTreeSet<(u64, bool, u64)>,
    /// Batches whose end those that wait for them are to be told.
    agenda: BTreeSet<u64>,
    /// Dedup keys: how long, and the batch that has it.
    keys: HashMap<dedup::Key, (Micros, u64)>,
    key_times: BTreeSet<(Micros, u64)>,
    /// While a copy is loaded: keys before this one were forgotten.
    first_key: Option<(Micros, u64)>,
    /// By hash of an identifier: batches that name it as a parent, and those
    /// that name it as an output.
    lineage: BTreeSet<(u64, bool, u64)>,
    /// Leases by the claim that they answered; the key is a hash, holders tell.
    requests: HashMap<u64, Vec<u32>>,
    /// Boxed: hardly ever there.
    copying: Option<Box<copy::Copying>>,
    observing: bool,
    ready: bool,
    effects: Effects,
    run: u64,
    /// The runs before.
    past: Vec<Run>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("now", &self.now).field("batches", &self.len()).finish()
    }
}

fn hash_id(hasher: &RandomState, id: &str) -> u64 {
    hasher.hash_one(id)
}

impl Engine {
    /// An engine without batches; its fencing tokens are of `epoch`, which
    /// must be greater than that of every engine before on the same state,
    /// and at most [`MAX_EPOCH`].
    pub fn new(config: Config, epoch: u64) -> Self {
        Engine {
            config,
            now: Timestamp::EPOCH,
            fences: fence::Fences::new(epoch),
            next_sequence: 1,
            slab: Slab::default(),
            ids: HashTable::new(),
            hasher: RandomState::new(),
            order: BTreeMap::new(),
            queues: Queues::default(),
            tenants: tenants::Tenants::default(),
            terminal: 0,
            live_bytes: 0,
            due: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            expiry: BTreeSet::new(),
            finished: BTreeSet::new(),
            failed: BTreeSet::new(),
            throttled: BTreeSet::new(),
            edges: BTreeSet::new(),
            agenda: BTreeSet::new(),
            keys: HashMap::new(),
            key_times: BTreeSet::new(),
            first_key: None,
            lineage: BTreeSet::new(),
            requests: HashMap::new(),
            copying: None,
            observing: false,
            ready: false,
            effects: Effects::default(),
            run: 0,
            past: Vec::new(),
        }
    }

    /// Begins a run of this name on the state that is there; it forgets the
    /// runs before where `is_whole` is false, for then something of them may be
    /// missing.
    pub fn begin_run(&mut self, id: u64, is_whole: bool) {
        if !is_whole {
            self.past.clear();
            self.run = 0;
        }
        if self.run != 0 {
            self.past.push(Run { id: self.run, end: self.next_sequence });
        }
        let old = self.past.len().saturating_sub(MAX_RUNS - 1);
        self.past.drain(..old);
        self.run = id;
    }

    /// The runs that its state has seen.
    pub fn history(&self) -> History {
        let present = Run { id: self.run, end: self.next_sequence };
        History { runs: self.past.iter().copied().chain([present]).collect() }
    }

    /// With what it does its work.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on with another configuration.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The epoch of its fencing tokens.
    pub fn epoch(&self) -> u64 {
        self.fences.epoch()
    }

    /// Does one call at `now`, after what time has brought about until then.
    ///
    /// # Errors
    /// Those of the call; nothing but time's part has then happened.
    pub fn apply(&mut self, command: &Command, now: Timestamp) -> Result<Reply, Error> {
        self.tick(now);
        Ok(match command {
            Command::Register(specs) => Reply::Registered(self.register(specs, now)?),
            Command::Claim(request) => Reply::Claimed(self.claim(request, now)?),
            Command::Settle(request) => Reply::Settled(self.settle(request, now)?),
            Command::Extend(leases) => Reply::Extended(self.extend(leases, now)?),
            Command::Control(control, from) => {
                let (reply, rest) = self.control(control, *from, now)?;
                Reply::Controlled(reply, rest)
            }
            Command::Tick => Reply::Ticked,
        })
    }

    /// Whether [`Effects::changes`] are made.
    pub fn observe(&mut self, on: bool) {
        self.observing = on;
    }

    /// What changed since the last call of this.
    pub fn take_effects(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        for sequence in &effects.written {
            if let Some(slot) = self.order.get(sequence) {
                self.slab.get_mut(*slot).dirty = false;
            }
        }
        for queue in self.queues.iter_mut().filter(|queue| queue.dirty) {
            queue.dirty = false;
            effects.queues.push(queue.name.to_string());
        }
        effects
    }

    /// Whether work became ready since the last call of this: claims that
    /// wait should be tried again.
    pub fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.ready)
    }

    /// How many batches there are, terminal ones included.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The latest time that it was told.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The last fencing token that was handed out in this epoch.
    pub fn last_fence(&self) -> Fence {
        self.fences.last()
    }

    /// Time goes forward only.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    fn find(&self, id: &str) -> Option<u32> {
        let same = |slot: &u32| self.slab.get(*slot).id() == id;
        self.ids.find(self.hash_of(id), same).copied()
    }

    fn hash_of(&self, id: &str) -> u64 {
        hash_id(&self.hasher, id)
    }

    fn find_id(&self, id: &BatchId) -> Option<u32> {
        self.find(id.as_str())
    }

    fn request_key(&self, worker: &str, request: &str) -> u64 {
        self.hasher.hash_one((worker, request))
    }

    /// Remembers that a record is new or changed.
    fn note(&mut self, slot: u32, from: Option<State>, worker: Option<Arc<str>>) {
        let record = self.slab.get_mut(slot);
        if !record.dirty {
            record.dirty = true;
            self.effects.written.push(record.sequence);
        }
        if from == Some(record.state) {
            return;
        }
        self.effects.transitions[record.state as usize] += 1;
        if self.observing {
            let held = record.lease.as_ref().map(|held| Arc::clone(&held.worker));
            let failed = record.extra.as_ref().and_then(|extra| extra.error.clone());
            let change = Change {
                id: record.batch_id(),
                queue: self.queues.get(record.queue).name.to_string(),
                from,
                to: Some(record.state),
                at: self.now,
                worker: held.or(worker).map(|worker| worker.to_string()),
                error: failed.filter(|_| matches!(record.state, State::Failed | State::Scheduled)),
                attempts: record.attempts,
            };
            self.effects.changes.push(change);
        }
    }

    /// Forgets a terminal batch; the queue counts it as purged.
    fn purge(&mut self, slot: u32) {
        self.keep(slot);
        let record = self.slab.get(slot);
        let queue = self.queues.get_mut(record.queue);
        queue.purged += 1;
        queue.dirty = true;
        self.effects.removed.push(record.sequence);
        if self.observing {
            let change = Change {
                id: record.batch_id(),
                queue: queue.name.to_string(),
                from: Some(record.state),
                to: None,
                at: self.now,
                worker: None,
                error: None,
                attempts: record.attempts,
            };
            self.effects.changes.push(change);
        }
        self.forget(slot);
    }
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
