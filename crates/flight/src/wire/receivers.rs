//! Streams that are being received, and which of them goes when memory is short.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

/// A message that came for less than this is not ended for others: it may only
/// just have begun.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is at hand of a message for which room is asked: a frame of HTTP/2.
const PIECE: u64 = 16 << 10;

/// All streams that are being received.
#[derive(Default)]
pub(super) struct Receivers(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    all: HashMap<u64, Arc<Receiver>>,
}

/// What is known of one stream from outside.
#[derive(Default)]
pub(super) struct Receiver {
    id: u64,
    /// Bytes that are counted for the message that is being put together.
    pub(super) counted: AtomicU64,
    /// Bytes of it that have come.
    filled: AtomicU64,
    /// When it began, in microseconds of the clock.
    since: AtomicU64,
    is_ended: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Receivers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self) -> Arc<Receiver> {
        let mut state = self.state();
        state.next += 1;
        let receiver = Arc::new(Receiver { id: state.next, ..Receiver::default() });
        state.all.insert(receiver.id, Arc::clone(&receiver));
        receiver
    }

    /// Whether it was the last one.
    pub(super) fn remove(&self, receiver: &Receiver) -> bool {
        let mut state = self.state();
        state.all.remove(&receiver.id);
        state.all.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().all.is_empty()
    }

    /// Ends the stream whose message comes slowest, so that those that come
    /// faster find room; whether there is one that comes more slowly than that
    /// of `own`, which asked at `asked`.
    pub(super) fn end_slowest(&self, own: &Receiver, asked: Duration, now: Duration) -> bool {
        let own_rate = own.rate_of_asking(asked);
        let slowest = {
            let state = self.state();
            let rated = state.all.values().filter(|one| one.id != own.id).filter_map(|one| {
                let rate = one.rate(now).filter(|rate| *rate < own_rate)?;
                Some((rate, one.id, one))
            });
            rated.min_by_key(|(rate, id, _)| (*rate, *id)).map(|(_, _, one)| Arc::clone(one))
        };
        let Some(slowest) = slowest else { return false };
        slowest.is_ended.store(true, Ordering::Release);
        let waker = slowest.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl Receiver {
    /// A message begins.
    pub(super) fn begin(&self, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.since.store(micros, Ordering::Relaxed);
        self.filled.store(0, Ordering::Relaxed);
    }

    pub(super) fn fill(&self, bytes: usize) {
        self.filled.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes in a second of the message that is coming, where it takes memory
    /// and had its time.
    fn rate(&self, now: Duration) -> Option<u64> {
        if self.counted.load(Ordering::Relaxed) == 0 || self.is_ended.load(Ordering::Relaxed) {
            return None;
        }
        let age = self.age(now);
        (age >= PATIENCE).then(|| per_second(self.filled.load(Ordering::Relaxed), age))
    }

    /// The same of a message for which room is asked now: while it is young, a
    /// piece counts that waits for this room.
    fn rate_of_asking(&self, now: Duration) -> u64 {
        let age = self.age(now);
        let waiting = if age < PATIENCE { PIECE } else { 0 };
        per_second(self.filled.load(Ordering::Relaxed).saturating_add(waiting), age)
    }

    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_micros(self.since.load(Ordering::Relaxed)))
    }

    /// Whether the stream was ended for others; wakes the caller once it is.
    pub(super) fn is_ended(&self, context: &mut Context<'_>) -> bool {
        if self.counted.load(Ordering::Relaxed) == 0 {
            return self.is_ended.load(Ordering::Acquire);
        }
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        drop(waker);
        self.is_ended.load(Ordering::Acquire)
    }
}

fn per_second(bytes: u64, age: Duration) -> u64 {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1_000) / millis.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_slowest_that_had_its_time_is_ended() {
        let receivers = Receivers::default();
        let [own, quick, slow, young, small] = std::array::from_fn(|_| receivers.add());
        for (one, since, filled) in [(&own, 0, 2 << 20), (&quick, 0, 1 << 20), (&slow, 1, 9)] {
            one.begin(second(since));
            one.fill(filled);
            one.counted.store(1 << 20, Ordering::Relaxed);
        }
        young.begin(second(10));
        young.counted.store(1 << 20, Ordering::Relaxed);
        small.begin(second(0));
        let mut context = Context::from_waker(Waker::noop());
        let end_slowest = |own| receivers.end_slowest(own, second(10), second(10));
        assert!(end_slowest(&own));
        assert!(slow.is_ended(&mut context) && !quick.is_ended(&mut context));
        assert!(end_slowest(&own) && quick.is_ended(&mut context));
        assert!(!end_slowest(&own), "none is left that had its time");
        assert!([own, young, small].iter().all(|one| !one.is_ended(&mut context)));
    }

    #[test]
    fn who_asks_ends_nobody_that_comes_as_fast() {
        let receivers = Receivers::default();
        let [quick, slow, young] = std::array::from_fn(|_| receivers.add());
        for (one, since, filled) in [(&quick, 0, 10 << 20), (&slow, 0, 10 << 10)] {
            one.begin(second(since));
            one.fill(filled);
            one.counted.store(1 << 20, Ordering::Relaxed);
        }
        let mut context = Context::from_waker(Waker::noop());
        let now = second(10);
        assert!(!receivers.end_slowest(&slow, now, now), "it is the slowest itself");
        // Half a second for one piece: faster than the slow one, not than the quick.
        young.begin(now);
        let asked = now + Duration::from_millis(500);
        assert!(receivers.end_slowest(&young, asked, second(60)));
        assert!(slow.is_ended(&mut context));
        assert!(!receivers.end_slowest(&young, asked, asked), "the other one is faster");
        assert!(!quick.is_ended(&mut context));
    }
}
