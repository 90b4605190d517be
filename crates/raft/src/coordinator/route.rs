//! Follows the leader: does a call here, sends it where it belongs, or waits.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Coordinator, Error};
use sheaf_retry::{Code, Retry, RetryPolicy, Retryable as _, SharedClock};
use tokio::sync::watch;

use super::config::Config;
use super::forward::Forward;
use super::item::Failed;
use crate::replica::Leadership;
use crate::types::{Member, NodeId};

/// Where a call is done.
pub(super) enum Place {
    /// This node leads.
    Here,
    /// Another one does.
    There(Arc<dyn Coordinator>),
}

/// See the module.
#[derive(Clone)]
pub(super) struct Route {
    node: NodeId,
    patience: Duration,
    clock: SharedClock,
    leadership: watch::Receiver<Leadership>,
    /// `None` does calls here or not at all, and does not wait.
    forward: Option<Arc<dyn Forward>>,
}

/// Until another node is known to lead, and while a leader does not answer: as often as
/// the call's time allows.
const FOLLOWING: RetryPolicy = RetryPolicy {
    max_retries: u32::MAX,
    base_ms: 5,
    factor: 2.0,
    cap_ms: 250,
    jitter: 0.5,
    deadline_ms: None,
};

/// How long one attempt waits to hear of a leader.
const LISTEN: Duration = Duration::from_millis(250);

impl Route {
    pub(super) fn new(
        config: &Config,
        clock: SharedClock,
        leadership: watch::Receiver<Leadership>,
        forward: Option<Arc<dyn Forward>>,
    ) -> Self {
        Route { node: config.node, patience: config.patience, clock, leadership, forward }
    }

    pub(super) fn last_hop(&self) -> Self {
        Route { forward: None, ..self.clone() }
    }

    /// Has `call` done wherever it can be. Given where, and how much is left of `wait`.
    pub(super) async fn follow<T, F, Fut>(&self, wait: Duration, call: F) -> Result<T, Error>
    where
        F: Fn(Place, Duration) -> Fut + Sync,
        Fut: Future<Output = Result<T, Failed>> + Send,
        T: Send,
    {
        let begun = self.clock.elapsed();
        let attempt = |attempt| {
            let call = &call;
            async move {
                let (place, led) = self.place(attempt).await?;
                let passed = self.clock.elapsed().saturating_sub(begun);
                let called = call(place, wait.saturating_sub(passed));
                tokio::select! {
                    biased;
                    result = called => result,
                    // Every call may be sent again: what the one before did, it does not repeat.
                    () = self.overtaken(led) => {
                        Err(Failed::Elsewhere("another node leads since the call".to_owned()))
                    }
                }
            }
        };
        self.repeat(wait, attempt).await
    }

    /// Does what needs a leader somewhere, but is not done by it.
    pub(super) async fn anywhere<F, Fut>(&self, call: F) -> Result<(), Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), Failed>>,
    {
        let attempt = |_| {
            let running = running(&self.leadership.borrow());
            let call = &call;
            async move {
                running?;
                call().await
            }
        };
        self.repeat(Duration::ZERO, attempt).await
    }

    async fn repeat<T, F, Fut>(&self, wait: Duration, attempt: F) -> Result<T, Error>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, Failed>>,
    {
        let limit = u64::try_from(wait.saturating_add(self.patience).as_millis());
        let policy = match self.forward {
            Some(_) => RetryPolicy { deadline_ms: Some(limit.unwrap_or(u64::MAX)), ..FOLLOWING },
            None => RetryPolicy::none(),
        };
        let seed = micros(self.clock.elapsed()) ^ self.node;
        let again = |failed: &Failed| matches!(failed, Failed::Elsewhere(_));
        let result =
            Retry::new(&policy, seed, Arc::clone(&self.clock)).run_if(attempt, again).await;
        result.map_err(|error| match error.into_last() {
            Failed::Error(error) => error,
            Failed::Elsewhere(why) => Error::Unavailable {
                problem: format!("has no leader that does the call: {why}"),
                code: Code::Unavailable,
            },
        })
    }

    /// Returns when somebody leads in a later term than a call was passed on in: whoever it was
    /// passed on to may be silent for long.
    async fn overtaken(&self, led: Option<u64>) {
        let mut leadership = self.leadership.clone();
        let Some(term) = led else { return std::future::pending().await };
        let later = |seen: &Leadership| seen.term > term && self.known(seen).is_some();
        if leadership.wait_for(later).await.is_err() {
            std::future::pending().await
        }
    }

    /// Where calls are done now, and in which term another node leads, where one does. Waits
    /// for a moment where nobody leads.
    async fn place(&self, attempt: u32) -> Result<(Place, Option<u64>), Failed> {
        let mut leadership = self.leadership.clone();
        let settled = |seen: &Leadership| seen.stopped.is_some() || self.known(seen).is_some();
        if self.forward.is_some() {
            let heard = leadership.wait_for(settled);
            // An error or the end of the time: the next attempt says more.
            drop(tokio::time::timeout(LISTEN, heard).await);
        }
        let seen = leadership.borrow().clone();
        running(&seen)?;
        match (self.known(&seen), &self.forward) {
            (Some(None), _) => Ok((Place::Here, None)),
            (Some(Some((id, member))), Some(forward)) => {
                let there = forward.to(id, &member, attempt).map_err(Failed::Error)?;
                Ok((Place::There(there), Some(seen.term)))
            }
            (Some(Some((id, member))), None) => Err(Failed::Elsewhere(format!(
                "this is node {}, node {id} at {member} leads",
                self.node
            ))),
            (None, _) => Err(Failed::Elsewhere("none leads at present".to_owned())),
        }
    }

    /// Who leads, where it is known and another node.
    pub(super) fn elsewhere(&self) -> Option<(NodeId, Member)> {
        self.known(&self.leadership.borrow()).flatten()
    }

    /// Who leads: another node, or this one, where it is ready.
    fn known(&self, seen: &Leadership) -> Option<Option<(NodeId, Member)>> {
        match &seen.leader {
            _ if seen.is_ready => Some(None),
            Some((id, member)) if *id != self.node => Some(Some((*id, member.clone()))),
            _ => None,
        }
    }
}

/// Who waits for a leader at a node that has stopped waits in vain.
fn running(seen: &Leadership) -> Result<(), Failed> {
    let Some(problem) = &seen.stopped else { return Ok(()) };
    let problem = format!("the node has stopped: {problem}");
    Err(Failed::Error(Error::Unavailable { problem, code: Code::Unavailable }))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What became of a call on another node.
pub(super) fn passed_on<T>(result: Result<T, Error>) -> Result<T, Failed> {
    result.map_err(|error| match error.code() {
        // It may have been done: every call may be sent again.
        Code::Unavailable | Code::Draining | Code::DeadlineExceeded => {
            Failed::Elsewhere(error.to_string())
        }
        _ => Failed::Error(error),
    })
}
