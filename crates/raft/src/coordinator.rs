//! The coordinator on a replicated log: the third backend of the contract.
//!
//! Every node has the whole state: the same pure engine as the embedded backend, fed by
//! the log. The leader stamps its time on every command and proposes what time brings
//! about; no other clock decides. [`EngineMachine`] is the state machine,
//! [`RaftCoordinator`] the contract on top of a node.
//!
//! Any node takes any call. Those that change something are passed on to the leader;
//! questions are answered from the state at hand, after a barrier which makes sure that
//! it has all that was acknowledged before. Calls whose outcome was lost with a leader
//! are sent again, for the contract makes every one of them idempotent.
//!
//! # A new leader
//! Its first command brings its configuration, which holds on all nodes from then on,
//! gives every lease its full time anew, since nobody could extend while there was no
//! leader, and begins a run of the history. Its time goes on where that of the state
//! stopped, at the pace of its monotonic clock: neither a clock that is behind nor one
//! that jumps ends a lease early or late. Fencing tokens count on from the last one
//! that was given out by any leader; their epoch does not change with the leader, for
//! the last token is part of the state.
//!
//! # Metrics
//! `sheaf_coordinator_*` as of the embedded backend. Every node counts what it applies:
//! look at those of the leader, not at their sum.

mod barrier;
mod calls;
mod command;
mod config;
mod driver;
mod endpoint;
mod failure;
mod forward;
mod item;
mod machine;
mod moving;
mod pace;
mod parked;
mod route;
mod snapshot;
#[cfg(test)]
mod tests;
mod twice;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use sheaf_coordinator::Error;
use sheaf_coordinator::backend::{Metrics, Watchers};
use sheaf_retry::{Code, SharedClock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use command::COMMAND_VERSION;
pub use config::Config;
pub use endpoint::RaftEndpoint;
pub use forward::{Forward, RpcForward};
pub use machine::EngineMachine;
pub use moving::{MigrationActions, RemoteEndpoint};
pub use snapshot::SNAPSHOT_VERSION;

use crate::replica::{self, Replica};
use barrier::Barrier;
use command::{Answer, Call};
use driver::Driver;
use item::{Failed, Item, Waiting};
use route::Route;

/// What errors call it.
const NAME: &str = "the replicated coordinator";

/// Names a run; no two have the same.
fn new_run() -> u64 {
    // The keys of the hasher are random.
    RandomState::new().hash_one(NAME).max(1)
}

fn closed() -> Error {
    Error::Unavailable { problem: "is shut down".to_owned(), code: Code::Draining }
}

/// Only this node has stopped: a caller that knows another one is to go there.
fn stopped(error: &replica::Error) -> Error {
    Error::Unavailable { problem: error.to_string(), code: Code::Unavailable }
}

/// See the [module](self). Cheap to clone; the last clone ends its work.
pub struct RaftCoordinator<Rp> {
    inner: Arc<Inner<Rp>>,
    route: Route,
}

struct Inner<Rp> {
    replica: Arc<Rp>,
    clock: SharedClock,
    inbox: mpsc::Sender<Item>,
    barrier: Barrier,
    metrics: Metrics,
    closing: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl<Rp> Clone for RaftCoordinator<Rp> {
    fn clone(&self) -> Self {
        RaftCoordinator { inner: Arc::clone(&self.inner), route: self.route.clone() }
    }
}

impl<Rp> std::fmt::Debug for RaftCoordinator<Rp> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftCoordinator").finish_non_exhaustive()
    }
}

impl<Rp: Replica<EngineMachine>> RaftCoordinator<Rp> {
    /// Starts the contract on this node; at most one of them on a node. Has to be
    /// called on a tokio runtime.
    pub fn start(
        replica: Arc<Rp>,
        config: Config,
        forward: Arc<dyn Forward>,
        clock: SharedClock,
    ) -> Self {
        let (inbox, calls) = mpsc::channel(config.max_calls.max(1));
        let (closing, is_closing) = watch::channel(false);
        let metrics = Metrics::new();
        replica.with_machine(&mut |machine| {
            let watchers = Watchers::new(config.max_watchers, config.watch_buffer);
            machine.observe(watchers, metrics.clone());
        });
        let leadership = replica.leadership();
        let route = Route::new(&config, Arc::clone(&clock), leadership, Some(forward));
        let parts = (Arc::clone(&replica), Arc::clone(&clock));
        let driver = Driver::new(parts.0, parts.1, config, metrics.clone(), calls, is_closing);
        let driver = Mutex::new(Some(tokio::spawn(driver.run())));
        let barrier = Barrier::start(Arc::clone(&replica));
        let inner = Inner { replica, clock, inbox, barrier, metrics, closing, driver };
        RaftCoordinator { inner: Arc::new(inner), route }
    }

    /// The same coordinator, but it passes nothing on and does not wait for a leader:
    /// for calls that another node passed on to this one.
    #[must_use]
    pub fn last_hop(&self) -> Self {
        RaftCoordinator { inner: Arc::clone(&self.inner), route: self.route.last_hop() }
    }

    /// Adds the metrics `sheaf_coordinator_*` to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.inner.metrics.register(registry);
    }

    /// Has the leader look at its clock now, for a clock that is not the machine's:
    /// returns when a part of what is due has happened.
    ///
    /// # Errors
    /// As any call, where this node does not lead.
    pub async fn wake(&self) -> Result<(), Error> {
        let done = self.ask(None, None).await;
        done.map(drop).map_err(|failed| match failed {
            Failed::Error(error) => error,
            Failed::Elsewhere(why) => Error::Unavailable { problem: why, code: Code::Unavailable },
        })
    }

    /// Takes no more calls, answers claims that wait with nothing, and ends. The node
    /// itself goes on.
    pub async fn close(&self) {
        self.inner.closing.send_replace(true);
        let driver = self.inner.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver
            && let Err(error) = driver.await
        {
            tracing::error!(%error, "the coordinator did not end in order");
        }
    }

    /// The whole state as something to move from and to. `name` is that of the cluster,
    /// the same on every node: a move that is cut off goes on by it.
    pub fn endpoint(&self, name: impl Into<String>) -> RaftEndpoint<Rp> {
        RaftEndpoint::new(self.clone(), name.into())
    }

    /// Has the driver do a call on this node.
    async fn ask(&self, call: Option<&Call>, waiting: Option<Waiting>) -> Result<Answer, Failed> {
        let (reply, answer) = oneshot::channel();
        let item = Item::new(call, waiting, reply);
        self.inner.inbox.try_send(item).map_err(|error| {
            Failed::Error(match error {
                mpsc::error::TrySendError::Full(_) => {
                    let limit = self.inner.inbox.max_capacity();
                    let problem = format!("has {limit} calls waiting, its limit");
                    Error::Unavailable { problem, code: Code::Overloaded }
                }
                mpsc::error::TrySendError::Closed(_) => closed(),
            })
        })?;
        answer.await.unwrap_or_else(|_| Err(Failed::Error(closed())))
    }

    /// As [`RaftCoordinator::ask`], for an answer of the kind that belongs to the call.
    async fn ask_for<T>(
        &self,
        call: &Call,
        waiting: Option<Waiting>,
        pick: fn(Answer) -> Option<T>,
    ) -> Result<T, Failed> {
        let answer = self.ask(Some(call), waiting).await?;
        let other = || Failed::Error(command::lost("it is of another kind".to_owned()));
        pick(answer).ok_or_else(other)
    }

    /// Returns when this node has all that was acknowledged before.
    async fn barrier(&self) -> Result<(), Error> {
        let pass = || async {
            self.inner.barrier.pass().await.map_err(|error| match error {
                replica::Error::NotLeader { .. } | replica::Error::Unknown { .. } => {
                    Failed::Elsewhere(error.to_string())
                }
                replica::Error::Stopped { .. } => Failed::Error(stopped(&error)),
                error => Failed::Error(Error::Backend {
                    operation: format!("ask {NAME}: {error}"),
                    code: sheaf_retry::Retryable::code(&error),
                    source: None,
                }),
            })
        };
        self.route.anywhere(pass).await
    }
}
