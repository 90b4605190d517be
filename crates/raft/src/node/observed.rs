//! What the engine tells of itself: who leads, what is applied, whether it runs.

use std::sync::{Arc, Mutex, PoisonError};

use openraft::async_runtime::WatchReceiver;
use openraft::error::Fatal;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{AsyncRuntime, Raft, RaftMetrics, ServerState};
use sheaf_retry::Code;
use tokio::sync::watch;

use super::waiting::Waiting;
use crate::replica::{Error, Leadership};
use crate::types::{LogId, Member, NodeId, Types};

/// The engine's state, as the handles see it.
pub(super) struct Observed {
    id: NodeId,
    leadership: watch::Sender<Leadership>,
    applied: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    applied: Option<u64>,
    term: u64,
    last: Option<u64>,
    stopped: Option<Error>,
}

/// The node was shut down.
pub(super) fn closed() -> Error {
    Error::Stopped { problem: "it was shut down".to_owned(), code: Code::Unavailable }
}

/// What the engine ended with, and whether that was the disk.
pub(super) fn fatal<R: AsyncRuntime>(error: &Fatal<Types<R>>) -> Error {
    let (problem, code) = match error {
        Fatal::StorageError(storage) => {
            let problem = storage.to_string();
            let full = problem.contains("No space left") || problem.contains("quota exceeded");
            (problem, if full { Code::DiskFull } else { Code::Io })
        }
        Fatal::Panicked => ("its task panicked".to_owned(), Code::Internal),
        Fatal::Stopped => return closed(),
    };
    Error::Stopped { problem, code }
}

impl Observed {
    pub(super) fn new(id: NodeId) -> Arc<Self> {
        Arc::new(Observed {
            id,
            leadership: watch::Sender::new(Leadership::default()),
            applied: watch::Sender::new(0),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(super) fn stopped(&self) -> Option<Error> {
        self.state().stopped.clone()
    }

    /// Why there is no answer any more.
    pub(super) fn gone(&self) -> Error {
        self.stopped().unwrap_or_else(closed)
    }

    /// Who leads, as far as is known.
    pub(super) fn leader(&self) -> Option<(NodeId, Member)> {
        self.leadership.borrow().leader.clone()
    }

    /// The node ended; the first reason stays.
    pub(super) fn stop(&self, error: Error) {
        let mut state = self.state();
        let problem = match state.stopped.get_or_insert(error) {
            Error::Stopped { problem, .. } => problem.clone(),
            other => other.to_string(),
        };
        state.waiting.clear();
        drop(state);
        self.leadership.send_modify(|leadership| {
            leadership.leader = None;
            leadership.is_ready = false;
            leadership.stopped = Some(problem);
        });
    }

    /// Returns when the entry is applied here.
    pub(super) async fn applied_at_least(&self, index: u64) -> Result<(), Error> {
        let applied = {
            let mut state = self.state();
            if state.applied.is_some_and(|applied| applied >= index) {
                return Ok(());
            }
            if let Some(error) = &state.stopped {
                return Err(error.clone());
            }
            state.waiting.add(index)
        };
        applied.await.map_err(|_| self.gone())
    }

    /// Takes over what the engine says.
    fn note<R: AsyncRuntime>(&self, metrics: &RaftMetrics<Types<R>>) {
        if let Err(error) = &metrics.running_state {
            return self.stop(fatal(error));
        }
        if self.stopped().is_some() {
            return;
        }
        let term = metrics.current_term;
        let leader = metrics.current_leader.and_then(|id| {
            let member = metrics.membership_config.get_node(&id).cloned();
            // One that was taken out of the cluster leads until all know; others have no
            // address for it any more, and wait for the next leader.
            member.or_else(|| (id == self.id).then(Member::default)).map(|member| (id, member))
        });
        let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(self.id);
        let of_own_term = |applied: LogId| *applied.leader_id == term;
        let is_ready = leads && metrics.last_applied.is_some_and(of_own_term);
        if let Some(applied) = metrics.last_applied.map(|applied| applied.index) {
            let mut state = self.state();
            state.applied = Some(applied);
            state.waiting.reach(applied);
        }
        {
            let mut state = self.state();
            (state.term, state.last) = (term, metrics.last_log_index);
        }
        let now = Leadership { term, leader, is_ready, stopped: None };
        self.leadership.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        let applied = self.state().applied.unwrap_or(0);
        self.applied.send_if_modified(|known| {
            let grows = *known < applied;
            *known = applied.max(*known);
            grows
        });
    }
}

/// Watches the engine until it ends.
pub(super) fn watch<R, S>(raft: &Raft<Types<R>, S>, observed: Arc<Observed>)
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    let mut metrics: WatchReceiverOf<Types<R>, RaftMetrics<Types<R>>> = raft.metrics();
    observed.note(&*metrics.borrow_watched());
    drop(R::spawn(async move {
        loop {
            let changed = metrics.changed().await;
            observed.note(&*metrics.borrow_watched());
            if changed.is_err() || observed.stopped().is_some() {
                break;
            }
        }
        // An engine that ends in order says so: this one did not come to that.
        observed.stop(fatal::<R>(&Fatal::Panicked));
    }));
}
