//! One address of a peer, on one lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_flight::{ChannelPool, FlightConnection};
use sheaf_retry::{Class, Code, Jitter, RetryPolicy, Retryable as _};

use crate::balance::Known;
use crate::context::Context;
use crate::frame::{Kind, Order, Packer, decode, join, split};
use crate::packet::{Lane, Packet};
use crate::serve::{HELLO, of_peer};
use crate::{Compression, Error, NodeId};

/// An address that is used is measured again after so long, where there are several.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// One address, with a connection of its own.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) endpoint: String,
    pool: ChannelPool,
    target: String,
    connection: Mutex<FlightConnection>,
    state: Mutex<State>,
    outstanding: AtomicU64,
    /// One hello at a time.
    probing: tokio::sync::Mutex<()>,
    seed: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Since a hello was answered and nothing failed since then.
    known: Option<(Duration, Duration)>,
    was_used: bool,
    /// It did not work once; that it works again is a reconnect.
    has_failed: bool,
    failures: u32,
    retry_at: Duration,
    problem: Option<(Code, String)>,
}

/// Whether an address can be used.
#[derive(Debug)]
pub(super) enum Standing {
    /// It can; measured long ago, where it says so.
    Up(Known, bool),
    /// It may be tried.
    Due,
    /// It is not tried before then.
    Down(Duration),
}

impl Route {
    /// `target` is the endpoint as connections are made to it.
    pub(super) fn new(
        endpoint: &str,
        target: String,
        pool: ChannelPool,
        seed: u64,
    ) -> Result<Self, Error> {
        let connection = Mutex::new(pool.connection(&target)?);
        let (state, outstanding) = (Mutex::default(), AtomicU64::new(0));
        let (probing, seed) = (Default::default(), Jitter::seed_of(endpoint) ^ seed);
        let endpoint = endpoint.to_owned();
        Ok(Route { endpoint, pool, target, connection, state, outstanding, probing, seed })
    }

    pub(super) fn connection(&self) -> FlightConnection {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the next call make a connection: over the one that is there nothing comes
    /// back, and the system has not noticed yet.
    fn renew(&self) {
        // What made the first one makes this one.
        if let Ok(connection) = self.pool.apart(u32::MAX).connection(&self.target) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Fields that change together in one place each: whole after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self, now: Duration) -> Standing {
        let state = self.state();
        match state.known {
            Some((round_trip, measured)) => {
                let outstanding = self.outstanding.load(Ordering::Relaxed);
                let is_old = now.saturating_sub(measured) >= MEASURE_INTERVAL;
                Standing::Up(Known { round_trip, measured, outstanding }, is_old)
            }
            None if now >= state.retry_at => Standing::Due,
            None => Standing::Down(state.retry_at),
        }
    }

    /// Whether somebody says hello just now.
    pub(super) fn is_being_probed(&self) -> bool {
        self.probing.try_lock().is_err()
    }

    /// Whether it can be used; `None` where nobody tried yet.
    pub(super) fn health(&self) -> Option<bool> {
        let state = self.state();
        state.was_used.then_some(state.known.is_some())
    }

    /// What the last attempt said.
    pub(super) fn problem(&self) -> Option<(Code, String)> {
        self.state().problem.clone()
    }

    /// Something failed that may be the connection's fault: a hello decides.
    pub(super) fn suspect(&self, error: &Error) {
        let mut state = self.state();
        state.known = None;
        state.has_failed = true;
        state.problem = Some((error.code(), error.to_string()));
    }

    /// An answer took so long.
    pub(super) fn measured(&self, took: Duration, now: Duration) {
        if let Some((round_trip, measured)) = &mut self.state().known {
            *round_trip = (*round_trip * 7 + took) / 8;
            *measured = now;
        }
    }

    /// Says hello, unless somebody else just did. What fails has the address left
    /// alone for a while.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) async fn probe(&self, context: &Arc<Context>, peer: NodeId) -> Result<(), Error> {
        let asked = context.clock.elapsed();
        let _one_at_a_time = self.probing.lock().await;
        match self.standing(asked) {
            Standing::Up(_, false) => return Ok(()),
            Standing::Down(_) => return Err(self.unusable(peer)),
            Standing::Up(_, true) | Standing::Due => {}
        }
        let before = context.clock.elapsed();
        let limit = context.config.connect_timeout;
        let result = context.within(limit, peer, "hello", self.hello(context, peer)).await;
        let now = context.clock.elapsed();
        let mut state = self.state();
        state.was_used = true;
        match result {
            Ok(()) => {
                if std::mem::take(&mut state.has_failed) {
                    context.metrics.reconnected();
                    tracing::info!(target: "transport", "node {peer} answers again at {}", self.endpoint);
                }
                state.known = Some((now.saturating_sub(before), now));
                (state.failures, state.problem) = (0, None);
                Ok(())
            }
            Err(error) => {
                let delay = delay(&context.config.reconnect, state.failures, self.seed);
                if state.failures == 0 {
                    let error = error.with_causes();
                    tracing::warn!(target: "transport", error, "node {peer} does not answer at {}", self.endpoint);
                }
                if error.code() == Code::DeadlineExceeded {
                    self.renew();
                }
                (state.known, state.has_failed) = (None, true);
                state.failures = state.failures.saturating_add(1);
                state.retry_at = now.saturating_add(delay);
                state.problem = Some((error.code(), text(&error)));
                Err(context.count(error))
            }
        }
    }

    async fn hello(&self, context: &Arc<Context>, peer: NodeId) -> Result<(), Error> {
        let (ends, session) = (context.ends_to(peer), context.next_session());
        let mut packer = Packer::new(ends, session, Compression::Off);
        let hello = Packet::of(context.hello.to_bytes());
        let frame = packer.frame(Kind::Hello, std::slice::from_ref(&hello)).message;
        let options = of_peer().deadline(context.config.connect_timeout);
        let answer = self.connection().action(HELLO, join(&frame), &options).await;
        let answer = answer.map_err(|error| Error::peer(peer, error))?;
        let answer = answer.into_iter().next().unwrap_or_default();
        let frame = decode(split(answer)?, context.config.max_frame_bytes())?;
        Order::new(ends.turned(), session, Kind::Hello).accept(&frame)
    }

    /// Why it is left alone.
    pub(super) fn unusable(&self, peer: NodeId) -> Error {
        let (code, problem) =
            self.problem().unwrap_or((Code::Unavailable, "not tried yet".to_owned()));
        Error::peer(peer, sheaf_flight::Error::new(code, problem))
    }

    /// Counts bytes that are under way, until they are not.
    pub(super) fn outstanding(self: &Arc<Self>, bytes: usize) -> Outstanding {
        self.outstanding.fetch_add(bytes as u64, Ordering::Relaxed);
        Outstanding { route: Arc::clone(self), bytes: bytes as u64 }
    }
}

/// Bytes that are under way on an address.
#[derive(Debug)]
pub(crate) struct Outstanding {
    route: Arc<Route>,
    bytes: u64,
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.route.outstanding.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whether trying again will not help until somebody changes something.
pub(super) fn is_permanent(code: Code) -> bool {
    code.class() == Class::Permanent
}

/// The text of an error with its causes.
fn text(error: &Error) -> String {
    match error {
        Error::Peer { source, .. } => source.message().to_owned(),
        other => other.to_string(),
    }
}

/// How long an address is left alone after so many failures before this one.
fn delay(policy: &RetryPolicy, failures: u32, seed: u64) -> Duration {
    let cap = Duration::from_millis(policy.cap_ms);
    policy.delay_seeded(failures, seed).unwrap_or(cap)
}

/// The lane's name, for errors.
pub(super) fn unreachable(
    peer: NodeId,
    lane: Lane,
    problem: String,
    retry_after: Duration,
) -> Error {
    Error::Unreachable { peer, lane: lane.as_str(), problem, retry_after }
}
