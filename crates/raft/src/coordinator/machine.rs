//! The engine of the coordinator as a replicated state machine.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use prost::Message as _;
use sheaf_coordinator::backend::{Metrics, Watchers};
use sheaf_coordinator::engine::{self, Engine};
use sheaf_coordinator::migration::{Phase, in_use};
use sheaf_coordinator::{Answer as Found, Claim, Error, Query};
use sheaf_proto::raft::v1 as proto;
use sheaf_proto::storage::v1::{CoordinatorMeta, QueueRecord};
use sheaf_retry::{Code, Timestamp};

use super::command::{self, Answer, COMMAND_VERSION, Call};
use super::snapshot::{self, BATCH, HEAD, QUEUE, Row, SNAPSHOT_VERSION, Taking};
use super::{NAME, failure};
use crate::machine::{Applied, DigestSoFar, MachineError, StateMachine};

/// Batches of a part of the digest: about a millisecond of work.
const DIGEST_PART: usize = 1_000;

/// The pure engine, fed by the log.
///
/// Everything that decides what becomes of a batch is in the replicated state: the
/// time, which a command brings and which never goes back, the configuration, which
/// the leader brings, and the fencing tokens. These count on from the last one that
/// any leader gave out, so they never repeat and never go back; their epoch changes
/// only where a state is moved here or forgotten, to one above all before.
///
/// A command of a newer version stops the machine: it answers that one, and all
/// after it, with an error, takes no snapshot and answers no question, for its state
/// is no longer that of the others. Brought on to that version, the node reads the
/// command again from its log.
pub struct EngineMachine {
    engine: Engine,
    phase: Phase,
    /// The configuration is one that a leader brought.
    is_led: bool,
    /// Of the command that this build could not read.
    refused: Option<u32>,
    taking: Option<Taking>,
    /// Of the state that the last snapshot is of.
    copied_digest: u64,
    /// Another one after each change of the state.
    version: u64,
    /// The entry that brought its time, or the last one of the snapshot that did.
    timed_at: Option<u64>,
    watchers: Watchers,
    metrics: Metrics,
    /// Names in errors that were answered: texts of this build, so there are few.
    names: BTreeSet<&'static str>,
}

impl std::fmt::Debug for EngineMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineMachine")
            .field("engine", &self.engine)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Default for EngineMachine {
    fn default() -> Self {
        EngineMachine::new()
    }
}

impl EngineMachine {
    /// Without batches, and without readers of events.
    pub fn new() -> Self {
        EngineMachine {
            engine: Engine::new(engine::Config::default(), 1),
            phase: Phase::Serving,
            is_led: false,
            refused: None,
            taking: None,
            copied_digest: 0,
            version: 1,
            timed_at: None,
            watchers: Watchers::new(0, 1),
            metrics: Metrics::new(),
            names: BTreeSet::new(),
        }
    }

    /// What is told to whom, which is not replicated.
    pub(super) fn observe(&mut self, watchers: Watchers, metrics: Metrics) {
        self.watchers = watchers;
        self.metrics = metrics;
    }

    /// The engine, for questions.
    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(super) fn watchers(&mut self) -> &mut Watchers {
        &mut self.watchers
    }

    /// Which entry brought the time of the state, or a snapshot up to which one, where any did.
    pub(super) fn timed_at(&self) -> Option<u64> {
        self.timed_at
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The name in an error of this machine.
    pub(super) fn name(&self, text: &str) -> Option<&'static str> {
        self.names.get(text).copied()
    }

    /// Why this node's state is not that of the others.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.refused.map(|version| snapshot::newer("a command", version, COMMAND_VERSION))
    }

    /// When time next brings something about, where it does.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        if self.is_moving() || self.refused.is_some() { None } else { self.engine.next_timer() }
    }

    /// Answers a question, or a part of one.
    ///
    /// # Errors
    /// Those of the engine, and where the state is being moved.
    pub(super) fn query(&self, query: &Query, scan: usize) -> Result<Found, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if self.is_moving() {
            self.serving()?;
        }
        self.engine.query(query, scan)
    }

    /// Nothing changes but by the migration.
    fn is_moving(&self) -> bool {
        !matches!(self.phase, Phase::Serving | Phase::Draining(_))
    }

    fn serving(&self) -> Result<(), Error> {
        self.phase.refusal(NAME).map_or(Ok(()), Err)
    }

    /// A state that is drained still takes results.
    fn working(&self) -> Result<(), Error> {
        if self.is_moving() { self.serving() } else { Ok(()) }
    }

    fn call(&mut self, call: Call, now: Timestamp) -> Result<Answer, Error> {
        let draining = matches!(self.phase, Phase::Draining(_));
        Ok(match call {
            Call::Register(specs) => {
                self.serving()?;
                Answer::Registered(self.engine.register(&specs, now)?)
            }
            Call::Claim(request) => {
                self.serving()?;
                Answer::Claimed(self.engine.claim(&request, now)?)
            }
            Call::Settle(mut request) => {
                self.working()?;
                let next = if draining { request.claim.take() } else { None };
                let mut settled = self.engine.settle(&request, now)?;
                if next.is_some() {
                    settled.claim = Some(Claim { now: self.engine.now(), ..Claim::default() });
                }
                Answer::Settled(settled)
            }
            Call::Extend(leases) => {
                self.working()?;
                Answer::Extended(self.engine.extend(&leases, now)?)
            }
            Call::Control(control, from) => {
                self.serving()?;
                let (reply, rest) = self.engine.control(&control, from, now)?;
                Answer::Controlled(reply, rest)
            }
            Call::Lead { node, run, config } => {
                self.lead(node, run, *config, now);
                Answer::Done(0)
            }
            Call::Enter { phase, run } => {
                self.enter(phase, run, now)?;
                Answer::Done(0)
            }
            Call::Fill { migration, meta, queues } => {
                Answer::Done(self.fill(Phase::Filling(migration), &meta, queues)?)
            }
            Call::Import(batches) => {
                self.import(&batches)?;
                Answer::Done(0)
            }
            Call::Discard { run } => {
                self.discard(run)?;
                Answer::Done(0)
            }
        })
    }

    /// A new leader: workers could not extend while there was none, so their leases
    /// have the full time anew. A run begins, so that a state that was put back to an
    /// earlier one does not take what it lost for known.
    fn lead(&mut self, node: u64, run: u64, config: engine::Config, now: Timestamp) {
        tracing::debug!(node, run, "a leader begins");
        self.engine.set_config(config);
        self.is_led = true;
        if !self.is_moving() {
            self.engine.begin_run(run, true);
            self.engine.renew_leases(now);
        }
    }

    fn enter(&mut self, wanted: Phase, run: u64, now: Timestamp) -> Result<(), Error> {
        if self.phase == wanted {
            return Ok(());
        }
        self.phase.check(&wanted, NAME)?;
        if wanted == Phase::Serving {
            if matches!(self.phase, Phase::Filling(_)) {
                self.engine.finish_load();
                self.engine.begin_run(run, true);
            }
            self.engine.renew_leases(now);
        }
        self.phase = wanted;
        Ok(())
    }

    /// A state without batches and queues, with tokens above all that were there.
    fn empty(&self, meta: &CoordinatorMeta) -> Result<Engine, Error> {
        let before = self.engine.epoch().max(meta.last_fence >> engine::FENCE_TIME_BITS);
        let epoch = before.saturating_add(1);
        if epoch > engine::MAX_EPOCH {
            let operation = format!("fill {NAME}: epoch {epoch} is over {}", engine::MAX_EPOCH);
            return Err(Error::Backend { operation, code: Code::LimitExceeded, source: None });
        }
        let mut engine = Engine::new(self.engine.config().clone(), epoch);
        let last_now = meta.last_now.max(self.engine.now().as_micros());
        engine.load_meta(&CoordinatorMeta { last_now, ..meta.clone() });
        Ok(engine)
    }

    fn fill(
        &mut self,
        phase: Phase,
        meta: &CoordinatorMeta,
        queues: Vec<QueueRecord>,
    ) -> Result<u64, Error> {
        self.phase.check(&phase, NAME)?;
        if self.phase == phase {
            return Ok(self.engine.sequences().last().unwrap_or(0));
        }
        if !self.engine.is_empty() {
            return Err(in_use(NAME));
        }
        let mut engine = self.empty(meta)?;
        queues.iter().try_for_each(|queue| engine.load_queue(queue))?;
        self.engine = engine;
        self.phase = phase;
        self.taking = None;
        Ok(0)
    }

    fn import(&mut self, batches: &[(u64, Bytes)]) -> Result<(), Error> {
        if !matches!(self.phase, Phase::Filling(_)) {
            let operation = format!("{NAME} is not being filled");
            return Err(Error::Backend { operation, code: Code::FailedPrecondition, source: None });
        }
        for (sequence, record) in batches {
            self.engine.load(*sequence, record).map_err(|damage| Error::Backend {
                operation: snapshot::damaged(*sequence, damage).to_string(),
                code: Code::Corrupt,
                source: None,
            })?;
        }
        Ok(())
    }

    fn discard(&mut self, run: u64) -> Result<(), Error> {
        if !matches!(self.phase, Phase::Filling(_) | Phase::Moved(_)) {
            self.phase.check(&Phase::Serving, NAME)?;
            return Err(in_use(NAME));
        }
        let mut engine = self.empty(&CoordinatorMeta::default())?;
        engine.begin_run(run, false);
        self.engine = engine;
        self.phase = Phase::Serving;
        self.taking = None;
        Ok(())
    }

    /// Does the calls of a command, or says why none of them.
    fn command(&mut self, bytes: &Bytes) -> Result<Vec<proto::CallReply>, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let command = proto::CoordinatorCommand::decode(bytes.clone());
        let command = command.map_err(|error| Error::Invalid {
            field: "command",
            problem: format!("is no command of a coordinator: {error}"),
        })?;
        if command.version == 0 {
            let problem = "is no command of a coordinator: it has no version".to_owned();
            return Err(Error::Invalid { field: "command", problem });
        }
        if command.version > COMMAND_VERSION {
            self.refused = Some(command.version);
            let refusal = snapshot::newer("a command", command.version, COMMAND_VERSION);
            tracing::error!(error = %refusal, "this node stops following the others");
            return Err(refusal);
        }
        let now = Timestamp::from_micros(command.now).max(self.engine.now());
        self.engine.observe(!self.watchers.is_empty());
        let calls: Vec<Result<Call, Error>> = command.calls.into_iter().map(Call::read).collect();
        if !self.is_moving() {
            // Nobody could extend a lease while nobody led: none of them is over.
            if calls.iter().any(|call| matches!(call, Ok(Call::Lead { .. }))) {
                self.engine.renew_leases(now);
            }
            self.engine.tick(now);
        }
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            let result = call.and_then(|call| self.call(call, now));
            if let Err(error) = &result {
                self.names.extend(failure::name(error));
            }
            replies.push(command::reply(result));
        }
        Ok(replies)
    }

    /// A hash of what is beside the engine.
    fn beside(&self) -> u64 {
        let beside = proto::CoordinatorHead {
            version: SNAPSHOT_VERSION,
            meta: Some(CoordinatorMeta {
                migration: self.phase.to_stored(),
                epoch: self.refused.map_or(0, u64::from),
                ..CoordinatorMeta::default()
            }),
            config: Some(command::config_message(self.engine.config())),
            is_led: self.is_led,
            ..proto::CoordinatorHead::default()
        };
        engine::stable_hash(&beside.encode_to_vec())
    }

    /// Tells and counts what happened.
    fn publish(&mut self) {
        let effects = self.engine.take_effects();
        self.metrics.committed(&effects, None);
        if !self.watchers.is_empty() {
            self.watchers.publish(&effects.changes);
            self.watchers.tidy();
        }
    }
}

impl StateMachine for EngineMachine {
    fn apply(&mut self, entry: Applied<'_>) -> Bytes {
        self.version += 1;
        let before = self.engine.now();
        let result = self.command(entry.command);
        if self.engine.now() > before {
            self.timed_at = Some(entry.index);
        }
        self.publish();
        if let Err(error) = &result {
            self.names.extend(failure::name(error));
        }
        let (replies, refused) = match result {
            Ok(replies) => (replies, None),
            Err(error) => (Vec::new(), Some(failure::message(&error))),
        };
        proto::CoordinatorReply { version: COMMAND_VERSION, replies, refused }
            .encode_to_vec()
            .into()
    }

    fn schema(&self) -> SchemaRef {
        snapshot::schema()
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        if let Some(refusal) = self.refusal() {
            return Err(Box::new(refusal));
        }
        self.engine.end_copy();
        let head = self.engine.begin_copy();
        let mut head = head.ok_or_else(|| snapshot::corrupt("another one is being taken"))?;
        let meta = engine::stable_hash(&head.meta.encode_to_vec());
        let mut digest = meta.wrapping_add(self.beside());
        head.meta.migration = self.phase.to_stored();
        let (first_key_until, first_key_sequence) = self.engine.first_key();
        let record = proto::CoordinatorHead {
            version: SNAPSHOT_VERSION,
            meta: Some(head.meta),
            config: Some(command::config_message(self.engine.config())),
            first_key_until,
            first_key_sequence,
            queues: head.queues.len() as u64,
            batches: head.batches,
            is_led: self.is_led,
        };
        let first = Row { kind: HEAD, key: None, sequence: None, record: record.encode_to_vec() };
        let queues = head.queues.into_iter().map(|(name, record)| {
            digest = digest.wrapping_add(engine::stable_hash(&record));
            Row { kind: QUEUE, key: Some(name), sequence: None, record }
        });
        let rows = std::iter::once(first).chain(queues).collect();
        self.taking = Some(Taking { rows, is_last: false, digest });
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        let Some(taking) = &mut self.taking else {
            return Err("the snapshot was given up: the state was replaced meanwhile".into());
        };
        while !taking.is_full() {
            let part = self.engine.copy_part();
            let part = part.ok_or("the snapshot was given up: the state was replaced")?;
            taking.is_last = part.is_last;
            let hashes = part.batches.iter().map(|(_, record)| engine::stable_hash(record));
            taking.digest = hashes.fold(taking.digest, u64::wrapping_add);
            taking.rows.extend(part.batches.into_iter().map(|(sequence, record)| Row {
                kind: BATCH,
                key: None,
                sequence: Some(sequence),
                record,
            }));
        }
        let part = taking.part()?;
        if part.is_none() {
            self.copied_digest = taking.digest;
            self.taking = None;
        }
        Ok(part)
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        let restored = snapshot::restore(batches)?;
        self.version += 1;
        self.engine = restored.engine;
        self.phase = restored.phase;
        self.is_led = restored.is_led;
        self.timed_at = None;
        self.refused = None;
        self.taking = None;
        // What happened on the way here is not known one by one.
        self.watchers.miss();
        Ok(())
    }

    fn restored(&mut self, index: u64) {
        self.timed_at = Some(index).filter(|_| self.engine.now() > Timestamp::EPOCH);
    }

    /// Encodes every batch: about a second for a million of them.
    fn digest(&mut self) -> u64 {
        self.engine.digest().wrapping_add(self.beside())
    }

    fn digest_part(&mut self, so_far: &mut DigestSoFar) -> Option<u64> {
        if so_far.version != self.version {
            let restarts = so_far.restarts + u32::from(so_far.after > 0);
            *so_far = DigestSoFar { version: self.version, restarts, ..DigestSoFar::default() };
        }
        let (sum, next) = self.engine.digest_after(so_far.sum, so_far.after, DIGEST_PART);
        match next {
            Some(after) => (so_far.sum, so_far.after) = (sum, after),
            None => return Some(sum.wrapping_add(self.beside())),
        }
        None
    }

    fn copies_digest(&self) -> bool {
        true
    }

    fn copied_digest(&mut self) -> u64 {
        self.copied_digest
    }
}
