//! Moves the whole state of one coordinator into another: batches with their
//! attempts, errors, leases and tokens, queues with their limits and switches,
//! and the history.
//!
//! [`migrate`] goes from one [`Endpoint`] to another, of any two backends. At no
//! point do both answer calls, and at each point where it can be cut off one of
//! these holds:
//!
//! | source | target | what may follow |
//! |---|---|---|
//! | `Draining`: gives nothing out, takes no registrations | empty | go on, or [`abandon`] |
//! | `Frozen`: refuses all calls | empty, or `Filling` | go on where it stopped, or [`abandon`] |
//! | `Moved`: refuses all calls for good | `Filling`, and whole | go on: the target is opened |
//! | `Moved` | `Serving` | nothing: it is done |
//!
//! The target is compared with the source, batch by batch, before the source is
//! given up. What is in the source stays there, for whoever wants to look at it.
//!
//! Leases go along: a worker settles at the target what it took from the source,
//! with the token that it has; each lease has its full time anew. What does not go
//! along is whose turn it is among tenants, and what the bucket of a rate holds.
//! Microseconds of durations are cut to milliseconds by backends that keep those.

mod compare;
mod run;
mod stored;

use std::time::Duration;

use async_trait::async_trait;
use prost::Message as _;
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1 as storage;
use sheaf_retry::{Code, Timestamp};

#[cfg(feature = "conformance")]
pub(crate) use compare::difference;
pub use run::{Options, Progress, Summary, abandon, migrate};

use crate::contract::Error;
use crate::limits;
use crate::model::{Batch, BatchSpec, DEFAULT_QUEUE, Failure, Fence, State};
use crate::policy::QueuePolicy;
use crate::request::History;

/// One migration, as both sides remember it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Names it: no two have the same.
    pub id: String,
    /// The source, as [`Endpoint::name`] has it.
    pub from: String,
    /// The target likewise.
    pub to: String,
    /// When it began.
    pub began_at: Timestamp,
}

/// How far one side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No migration: it answers calls, or is ready to.
    Serving,
    /// A source that gives nothing out and takes no registrations.
    Draining(Migration),
    /// A source that refuses all calls.
    Frozen(Migration),
    /// A source whose state is elsewhere now.
    Moved(Migration),
    /// A target that is not yet whole.
    Filling(Migration),
}

impl Phase {
    /// The migration that it is in.
    pub fn migration(&self) -> Option<&Migration> {
        match self {
            Phase::Serving => None,
            Phase::Draining(migration)
            | Phase::Frozen(migration)
            | Phase::Moved(migration)
            | Phase::Filling(migration) => Some(migration),
        }
    }

    /// The error of a call on `name` that this phase does not let through.
    pub fn refusal(&self, name: &str) -> Option<Error> {
        let (operation, code) = match self {
            Phase::Serving => return None,
            Phase::Draining(migration) => (
                format!("{name} is being moved to {}: registrations wait for that", migration.to),
                Code::Unavailable,
            ),
            Phase::Frozen(migration) => (
                format!(
                    "{name} is being moved to {}: run `sheaf coordinator migrate` with the same \
                     --from and --to again, or with --abandon to stay here",
                    migration.to
                ),
                Code::Unavailable,
            ),
            Phase::Moved(migration) => (
                format!("{name} was moved to {}: connect to that", migration.to),
                Code::FailedPrecondition,
            ),
            Phase::Filling(migration) => (
                format!(
                    "{name} has not yet all that is moved here from {}: run `sheaf coordinator \
                     migrate` with the same --from and --to again",
                    migration.from
                ),
                Code::Unavailable,
            ),
        };
        Some(Error::Backend { operation, code, source: None })
    }
}

impl Phase {
    /// Whether a state may go on to another phase.
    ///
    /// # Errors
    /// `failed_precondition` or `unavailable`, with what it is in.
    pub fn check(&self, wanted: &Phase, name: &str) -> Result<(), Error> {
        let same = match (self.migration(), wanted.migration()) {
            (Some(one), Some(other)) => one.id == other.id,
            _ => true,
        };
        let allowed = match (self, wanted) {
            (Phase::Serving, Phase::Draining(_) | Phase::Frozen(_) | Phase::Filling(_))
            | (Phase::Draining(_) | Phase::Frozen(_), Phase::Frozen(_) | Phase::Serving)
            | (Phase::Frozen(_), Phase::Moved(_))
            | (Phase::Filling(_), Phase::Filling(_) | Phase::Serving) => true,
            (now, wanted) => now == wanted,
        };
        if same && allowed {
            return Ok(());
        }
        Err(self.refusal(name).unwrap_or_else(|| in_use(name)))
    }
}

/// The error of emptying or replacing what nobody moved away.
pub fn in_use(name: &str) -> Error {
    Error::Backend {
        operation: format!("{name} is in use and in no migration"),
        code: Code::FailedPrecondition,
        source: None,
    }
}

/// What stands at the head of a state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// Batches, terminal ones included.
    pub batches: u64,
    /// Of them those that are under lease.
    pub leases: u64,
    /// A token that no lease of it is above, now or later.
    pub last_fence: Fence,
    /// Its runs, the present one included.
    pub history: History,
    /// By name.
    pub queues: Vec<Queue>,
}

/// A queue beside its batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// Which.
    pub name: String,
    /// No claims are answered.
    pub paused: bool,
    /// No registrations are taken.
    pub draining: bool,
    /// Batches of it that were forgotten.
    pub purged: u64,
    /// Its limits.
    pub policy: QueuePolicy,
}

/// A batch with what only the coordinator knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place in the order of registration of the source, above 0.
    pub sequence: u64,
    /// All that can be asked of it.
    pub batch: Batch,
    /// When it expires unless it is claimed before.
    pub expires_at: Option<Timestamp>,
    /// While it is waiting: those that have not completed.
    pub waits_for: Vec<Waited>,
}

impl Record {
    /// Stands in for a record that cannot be read: a failed batch with code
    /// `corrupt`, named by its sequence number where it has no name.
    pub fn damaged(sequence: u64, id: Option<BatchId>, why: &str, at: Timestamp) -> Self {
        let named = id.or_else(|| BatchId::try_new(&format!("corrupt-{sequence}")).ok());
        let spec = BatchSpec {
            queue: DEFAULT_QUEUE.to_owned(),
            ..BatchSpec::new(named.unwrap_or_else(|| BatchId::generate(0)))
        };
        let error = Failure {
            code: Code::Corrupt,
            message: limits::cut(why, limits::MAX_ERROR_BYTES),
            permanent: true,
            at,
        };
        let batch = Batch {
            spec,
            state: State::Failed,
            attempts: 0,
            lost_leases: 0,
            lease: None,
            progress: None,
            error: Some(error),
            registered_at: at,
            updated_at: at,
            due_at: None,
            first_attempt_at: None,
            finished_at: Some(at),
            last_fence: Fence(0),
            settled: None,
            outputs: Vec::new(),
        };
        Record { sequence, batch, expires_at: None, waits_for: Vec::new() }
    }
}

/// A batch that another one waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waited {
    /// Which.
    pub id: BatchId,
    /// Its place in the order of registration.
    pub sequence: u64,
}

/// The state of a coordinator as something to move from and to. One at a time
/// has it open for that; several processes may be working on it where it is
/// shared.
///
/// 1. `enter` and `fill` are durable when they return, and may be called again
///    for the same migration. They refuse a state that is in another one.
/// 2. Nothing changes in a `Frozen`, `Moved` or `Filling` state but by this.
/// 3. `write` may be called again with records that are there.
#[async_trait]
pub trait Endpoint: Send {
    /// For people, without secrets: what and where it is.
    fn name(&self) -> String;

    /// Whether others may be working on it meanwhile.
    fn is_shared(&self) -> bool;

    /// How far it is.
    async fn phase(&mut self) -> Result<Phase, Error>;

    /// Goes to another phase but `Filling`. To `Serving` from `Filling` the state
    /// is opened: it is whole.
    async fn enter(&mut self, phase: &Phase) -> Result<(), Error>;

    /// What it has beside batches.
    async fn head(&mut self) -> Result<Head, Error>;

    /// Some batches after a place, in order; none at the end.
    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error>;

    /// Goes to `Filling`, with all but the batches; answers the sequence number, in
    /// the source, of the last batch that is there already, 0 for none.
    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error>;

    /// Adds batches in order.
    async fn write(&mut self, records: &[Record]) -> Result<(), Error>;

    /// Makes durable what was written.
    async fn sync(&mut self) -> Result<(), Error>;

    /// Forgets all that it has in phase `Filling` or `Moved`, which is then over.
    async fn discard(&mut self) -> Result<(), Error>;
}

const DRAINING: u32 = 1;
const FROZEN: u32 = 2;
const MOVED: u32 = 3;
const FILLING: u32 = 4;

impl Phase {
    /// As it is stored; `None` for `Serving`.
    pub fn to_stored(&self) -> Option<storage::Migration> {
        let phase = match self {
            Phase::Serving => return None,
            Phase::Draining(_) => DRAINING,
            Phase::Frozen(_) => FROZEN,
            Phase::Moved(_) => MOVED,
            Phase::Filling(_) => FILLING,
        };
        self.migration().map(|migration| storage::Migration {
            id: migration.id.clone(),
            from: migration.from.clone(),
            to: migration.to.clone(),
            began_at: migration.began_at.as_micros(),
            phase,
        })
    }

    /// Undoes [`Phase::to_stored`].
    ///
    /// # Errors
    /// `Invalid` for a phase of a later version.
    pub fn from_stored(stored: storage::Migration) -> Result<Self, Error> {
        let migration = Migration {
            id: stored.id,
            from: stored.from,
            to: stored.to,
            began_at: Timestamp::from_micros(stored.began_at),
        };
        match stored.phase {
            DRAINING => Ok(Phase::Draining(migration)),
            FROZEN => Ok(Phase::Frozen(migration)),
            MOVED => Ok(Phase::Moved(migration)),
            FILLING => Ok(Phase::Filling(migration)),
            other => {
                let problem = format!("{other} is not known here: of a later version");
                Err(Error::Invalid { field: "phase", problem })
            }
        }
    }

    /// [`Phase::to_stored`] as bytes; none for `Serving`.
    pub fn encode(&self) -> Vec<u8> {
        self.to_stored().map(|stored| stored.encode_to_vec()).unwrap_or_default()
    }

    /// Undoes [`Phase::encode`].
    ///
    /// # Errors
    /// `Invalid` for bytes that are no phase.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Phase::Serving);
        }
        let stored = storage::Migration::decode(bytes)
            .map_err(|error| Error::Invalid { field: "migration", problem: error.to_string() })?;
        Phase::from_stored(stored)
    }
}

/// How often leases are counted while a source drains.
const LOOK: Duration = Duration::from_millis(200);
