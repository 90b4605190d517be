//! The bounded queue between callers and the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_retry::Code;
use tokio::sync::oneshot;

use crate::contract::Error;
use crate::engine::{CopyHead, CopyPart};
use crate::model::BatchSpec;
use crate::request::{
    Answer, Claim, ClaimRequest, Control, ControlReply, Event, Extended, Extension, Query,
    Registered, SettleReply, SettleRequest, WatchFilter,
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A call on its way to the writer.
pub(super) enum Call {
    Register(Vec<BatchSpec>, Reply<Vec<Registered>>),
    Claim(ClaimRequest, Reply<Claim>),
    Settle(SettleRequest, Reply<SettleReply>),
    Extend(Vec<Extension>, Reply<Vec<Extended>>),
    Control(Control, Reply<ControlReply>),
    Query(Query, Reply<Answer>),
    Watch(WatchFilter, Reply<tokio::sync::mpsc::Receiver<Event>>),
    /// Begin a copy, go on with it, give it up.
    Copy(CopyCall),
    /// Look at the clock.
    Wake(Reply<()>),
}

/// The calls of the one thread that makes a copy.
pub(super) enum CopyCall {
    Begin(Reply<CopyHead>),
    Part(Reply<CopyPart>),
    End,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    closed: bool,
    /// The writer wants to be told when this many are there.
    awaited: usize,
}

/// How long the writer waits for callers that it just answered.
#[derive(Default)]
pub(super) struct Patience {
    hope: usize,
    time: Duration,
}

impl Patience {
    /// Learns from a group of `calls` whose commit took this long: a quarter
    /// of a commit is well spent on not making two. One caller alone never waits.
    pub(super) fn learn(&mut self, calls: usize, commit: Duration) {
        self.hope = calls.max(self.hope - self.hope.div_ceil(4));
        self.time = if self.hope > 1 { (commit / 4).min(LONGEST_PATIENCE) } else { Duration::ZERO };
    }
}

const LONGEST_PATIENCE: Duration = Duration::from_micros(500);

/// See the module.
pub(super) struct Mailbox {
    state: Mutex<State>,
    filled: Condvar,
    limit: usize,
}

pub(super) fn closed() -> Error {
    Error::Unavailable { problem: "is shut down".to_owned(), code: Code::Draining }
}

impl Mailbox {
    pub(super) fn new(limit: usize) -> Self {
        Mailbox { state: Mutex::default(), filled: Condvar::new(), limit }
    }

    // Nothing panics while it holds the lock, and what it guards is whole at any time.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call, or refuses it where too many wait.
    pub(super) fn put(&self, call: Call) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        // Of these there is one at a time, and refused it would have to begin anew.
        let is_copy = matches!(call, Call::Copy(CopyCall::Part(_) | CopyCall::End));
        if state.calls.len() >= self.limit && !is_copy {
            let problem = format!("has {} calls waiting, its limit", self.limit);
            return Err(Error::Unavailable { problem, code: Code::Overloaded });
        }
        state.calls.push_back(call);
        if state.calls.len() == 1 || state.calls.len() == state.awaited {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes what is there, at most `most`; waits for it until `timeout`.
    /// `None` once it is closed and empty.
    ///
    /// Callers that were just answered come back a moment later: where `hope`
    /// says how many, they get `patience` to share one commit.
    pub(super) fn take(
        &self,
        most: usize,
        timeout: Duration,
        patience: &Patience,
    ) -> Option<Vec<Call>> {
        let mut state = self.lock();
        if state.calls.is_empty() && !state.closed && !timeout.is_zero() {
            state.awaited = 1;
            (state, _) =
                self.filled.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.calls.is_empty() && state.calls.len() < patience.hope && !patience.time.is_zero()
        {
            state.awaited = patience.hope;
            // A wake-up for another reason only makes a smaller group.
            (state, _) = self
                .filled
                .wait_timeout(state, patience.time)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.awaited = 0;
        if state.calls.is_empty() && state.closed {
            return None;
        }
        let count = state.calls.len().min(most);
        Some(state.calls.drain(..count).collect())
    }

    /// No more calls; those that wait are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// The writer is gone: nothing waits any more.
    pub(super) fn abandon(&self) {
        let calls = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.calls)
        };
        drop(calls);
    }
}
