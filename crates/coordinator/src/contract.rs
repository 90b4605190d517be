//! The contract that every backend keeps.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_retry::Code;

use crate::model::BatchSpec;
use crate::request::{
    Answer, Claim, ClaimRequest, Control, ControlReply, Event, Extended, Extension, Query,
    Registered, SettleReply, SettleRequest, WatchFilter,
};

/// Knows what must still happen to every batch.
///
/// Every implementation, also one behind a network, keeps these rules; the
/// conformance suite has a test for each.
///
/// 1. A batch is in exactly one [`State`](crate::State); the counts of a queue
///    and its `purged` counter sum to what was registered in it.
/// 2. `claim` is atomic. It takes at most `max` batches within the bounds on
///    bytes and rows. By priority first; within one priority the tenants of a
///    queue take turns, in the order of their names, whatever each has
///    waiting; a tenant's own batches, and the heads of several queues, go by
///    age. No batch is under two leases.
/// 3. Every lease has a fencing token greater than all before it, also after
///    a restart or a failover.
/// 4. `settle` and `extend` with an old token change nothing and answer
///    `Stale`; the same settle again answers `AlreadyDone`.
/// 5. One `settle` completes inputs, registers outputs and claims the next
///    work in one step: all of it is durable, or nothing.
/// 6. Every call may be sent again: register by batch id, settle and extend by
///    token, claim by request id give the same answer and no second effect.
/// 7. `max_retries = 3` is three retries after the first attempt, 0 is none.
///    The delay comes from the batch's own policy. A permanent failure, or
///    the last, goes to `failed` with its error.
/// 8. A lease that runs out returns its batch. An attempt is charged when
///    processing started, not before; the tenth lost lease in a row makes
///    `failed` with code `lease_lost`, and so does a lost lease whose charged
///    attempt was the last that the policy allows. A release charges nothing.
/// 9. Only the coordinator's clock decides.
/// 10. Nothing live vanishes: expiry is a transition that is counted.
/// 11. A waiting `claim` is woken by work; nobody needs to poll.
/// 12. A paused queue answers claims with nothing; a draining one refuses
///     registrations and works off what it has. A queue never has more leases
///     than its [`QueuePolicy`](crate::QueuePolicy) allows, in all and of one
///     tenant, nor gives batches out faster; also not by id. A lease that is
///     released before processing started does not count. A waiting claim
///     is woken when a lease ends or a token is there. Registrations whose
///     payloads do not fit are refused as overloaded until work makes room;
///     outputs of work are taken in any case.
/// 13. A batch registered with a dedup key of its queue and tenant whose
///     window is open is answered as the first one, `created` false, as long
///     as that one is not purged by hand. A batch that depends on others is
///     `waiting` until each has completed; when one fails, is cancelled or
///     expires, it fails, waits on or is cancelled, as asked. What it depends
///     on is registered before or in the same call, and not forgotten while
///     it waits. Chains of any length are worked off in bounded steps.
/// 14. `Query::Recovery` tells for every lease whether it stands, was
///     settled, or is stale, so that a sink's commit is resolved without a duplicate.
///     `Query::History` tells which registrations the coordinator has seen: all
///     that it acknowledged and still has, or purged. What was lost with its
///     state is not among them, also when other batches were registered since.
/// 15. Reading never holds up work.
///
/// An `Ok` means that the effect is as durable as the backend was asked to
/// be. All calls are cancel-safe: a dropped call either had its whole effect
/// or none, and may be sent again.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// Registers batches, all or none; answers in the order asked.
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error>;

    /// Takes batches under lease; waits up to `request.wait` when there is none.
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error>;

    /// Ends attempts, starts prefetched ones and claims the next, in one step.
    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error>;

    /// Prolongs leases; answers in the order asked.
    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error>;

    /// Reads.
    async fn query(&self, query: Query) -> Result<Answer, Error>;

    /// Changes by hand.
    async fn control(&self, control: Control) -> Result<ControlReply, Error>;

    /// Events from now on, in order, without end until the coordinator closes.
    /// A reader that is too slow is told that it missed some, at the latest
    /// when it has read what was kept for it.
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error>;
}

/// Why a coordinator could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is not allowed.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong, with actual value and limit.
        problem: String,
    },
    /// More than the coordinator takes.
    #[error("{field}: {actual} is over the limit of {limit}")]
    Limit {
        /// The field.
        field: &'static str,
        /// What was asked.
        actual: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Part of the contract that this coordinator does not have.
    #[error("{what} is not built into this coordinator; leave it out")]
    Unimplemented {
        /// The field or call.
        what: &'static str,
    },
    /// The batch is registered with another specification.
    #[error("batch {id} is registered with another {field}: {registered}, not {asked}")]
    Conflict {
        /// The batch.
        id: String,
        /// What differs.
        field: &'static str,
        /// Its value as registered, cut where it is long.
        registered: String,
        /// Its value as asked for now, cut alike.
        asked: String,
    },
    /// The queue takes no registrations.
    #[error("queue {queue:?} is draining and takes no new batches; resume it first")]
    Draining {
        /// The queue.
        queue: String,
    },
    /// The payloads of live batches are too large; work makes room.
    #[error(
        "{holder} holds {live} bytes of live batches; {more} more are over its limit of {limit} until work completes"
    )]
    Full {
        /// The coordinator, or which queue.
        holder: String,
        /// Bytes that are there.
        live: u64,
        /// Bytes that were to come.
        more: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// No such batch.
    #[error("no batch {id}")]
    NotFound {
        /// The batch.
        id: String,
    },
    /// The call does not fit the state of the batch.
    #[error("batch {id} {problem}")]
    Precondition {
        /// The batch.
        id: String,
        /// What does not fit.
        problem: String,
    },
    /// The coordinator is shutting down, or too busy to queue one more call.
    #[error("the coordinator {problem}")]
    Unavailable {
        /// What it does.
        problem: String,
        /// Overloaded, draining, unavailable or deadline exceeded.
        code: Code,
    },
    /// The backend failed.
    #[error("{operation}")]
    Backend {
        /// What was tried, on what.
        operation: String,
        /// Stable code.
        code: Code,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// When to come back to a coordinator that is full.
const ROOM_HINT: Duration = Duration::from_secs(1);

impl sheaf_retry::Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Invalid { .. } => Code::InvalidArgument,
            Error::Limit { .. } => Code::LimitExceeded,
            Error::Unimplemented { .. } => Code::Unimplemented,
            Error::Conflict { .. } => Code::AlreadyExists,
            Error::Draining { .. } | Error::Precondition { .. } => Code::FailedPrecondition,
            Error::Full { .. } => Code::Overloaded,
            Error::NotFound { .. } => Code::NotFound,
            Error::Unavailable { code, .. } | Error::Backend { code, .. } => *code,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Error::Full { .. }).then_some(ROOM_HINT)
    }
}
