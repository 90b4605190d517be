//! Waiting for room in a window.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::state::State;
use crate::WindowConfig;

/// The window of one lane to one peer; requests wait here when it is full.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    freed: Notify,
    requests: Gauge,
    bytes: Gauge,
}

impl Gate {
    /// An open gate, which shows what is under way in two gauges of all lanes.
    pub(crate) fn new(config: WindowConfig, requests: Gauge, bytes: Gauge) -> Arc<Self> {
        let state = Mutex::new(State::new(config));
        Arc::new(Gate { state, freed: Notify::new(), requests, bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters that change together: a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room. Dropping the future takes none.
    pub(crate) async fn enter(self: &Arc<Self>, bytes: usize) -> Place {
        while !self.state().take(bytes) {
            self.freed.notified().await;
        }
        self.requests.inc();
        self.bytes.inc_by(signed(bytes));
        // There may be room for one more that waits.
        self.freed.notify_one();
        Place { gate: Arc::clone(self), bytes, is_over: false }
    }

    /// Requests and bytes that may be under way now.
    pub(crate) fn limits(&self) -> (usize, usize) {
        self.state().limits()
    }
}

/// The room that one request has.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    bytes: usize,
    is_over: bool,
}

impl Place {
    /// It was answered at `now`, and took so long.
    pub(crate) fn answered(mut self, took: Duration, now: Duration) {
        self.is_over = true;
        self.gate.state().answered(self.bytes, took, now);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_over {
            self.gate.state().give_back(self.bytes);
        }
        self.gate.requests.dec();
        self.gate.bytes.dec_by(signed(self.bytes));
        self.gate.freed.notify_one();
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn gate() -> Arc<Gate> {
        let config = WindowConfig { requests: 2, bytes: 100, ..WindowConfig::default() };
        Gate::new(config, Gauge::default(), Gauge::default())
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_for_an_answer() {
        let gate = gate();
        let first = gate.enter(10).await;
        let _second = gate.enter(10).await;
        let mut third = Box::pin(gate.enter(10));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!((gate.requests.get(), gate.bytes.get()), (2, 20));
        first.answered(Duration::from_millis(1), Duration::ZERO);
        assert!(third.now_or_never().is_some());
        assert_eq!(gate.requests.get(), 1);
    }

    #[tokio::test]
    async fn a_place_that_is_dropped_is_free_and_wakes_who_waits() {
        let gate = gate();
        let held = gate.enter(100).await;
        let (mut first, mut second) = (Box::pin(gate.enter(50)), Box::pin(gate.enter(50)));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        // One wake-up lets in both.
        let _first = first.await;
        let _second = second.await;
    }
}
