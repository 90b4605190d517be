//! A clock for tests.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Sleep;
use crate::{Clock, Timestamp};

/// A clock that stands still until a test moves it.
///
/// Two ways to wait on it:
///
/// - [`ManualClock::new`]: a sleeper sleeps until [`ManualClock::advance`] has
///   moved the clock far enough. [`ManualClock::sleepers`] says how many wait,
///   so that a test can advance when the code under test has come to rest.
/// - [`ManualClock::auto`]: every sleep moves the clock by its own length and
///   returns at once. For code that sleeps in one place only: sleeps of
///   several tasks add up instead of running side by side.
///
/// ```
/// use std::time::Duration;
/// use sheaf_retry::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::auto(Timestamp::EPOCH);
/// clock.sleep_blocking(Duration::from_secs(3600)); // returns at once
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    start: Timestamp,
    auto: bool,
    state: Mutex<State>,
    moved: Notify,
    moved_blocking: Condvar,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    sleepers: usize,
}

impl ManualClock {
    /// A clock that shows `start` until it is advanced.
    pub fn new(start: Timestamp) -> Arc<Self> {
        Self::with(start, false)
    }

    /// A clock that shows `start` and is moved by whoever sleeps on it.
    pub fn auto(start: Timestamp) -> Arc<Self> {
        Self::with(start, true)
    }

    fn with(start: Timestamp, auto: bool) -> Arc<Self> {
        Arc::new(ManualClock {
            start,
            auto,
            state: Mutex::new(State { now: start, sleepers: 0 }),
            moved: Notify::new(),
            moved_blocking: Condvar::new(),
        })
    }

    /// Moves the clock forward and wakes those whose time has come.
    pub fn advance(&self, by: Duration) {
        {
            let mut state = self.state();
            state.now = state.now.plus(by);
        }
        self.moved.notify_waiters();
        self.moved_blocking.notify_all();
    }

    /// How many sleeps are under way, blocking ones included.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another test thread leaves the numbers intact.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one sleeper for as long as it lives.
struct Asleep<'a>(&'a ManualClock);

impl<'a> Asleep<'a> {
    fn new(clock: &'a ManualClock) -> Self {
        clock.state().sleepers += 1;
        Asleep(clock)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.state().sleepers -= 1;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn elapsed(&self) -> Duration {
        self.now().since(self.start)
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        let until = self.now().plus(duration);
        Box::pin(async move {
            if self.auto {
                self.advance(duration);
                return;
            }
            let mut asleep = None;
            loop {
                // Registered before the clock is read: an advance between the
                // two is not missed.
                let mut moved = pin!(self.moved.notified());
                moved.as_mut().enable();
                if self.now() >= until {
                    return;
                }
                asleep.get_or_insert_with(|| Asleep::new(self));
                moved.await;
            }
        })
    }

    fn sleep_blocking(&self, duration: Duration) {
        if self.auto {
            return self.advance(duration);
        }
        let until = self.now().plus(duration);
        let asleep = Asleep::new(self);
        let awake = self.moved_blocking.wait_while(self.state(), |state| state.now < until);
        drop(awake);
        drop(asleep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a broken test hangs.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new(Timestamp::from_millis(10));
        let sleeper = Arc::clone(&clock);
        let task = tokio::spawn(async move { sleeper.sleep(Duration::from_secs(2)).await });
        let real = crate::SystemClock::shared();
        while clock.sleepers() == 0 {
            assert!(real.elapsed() < PATIENCE, "nobody sleeps");
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(1));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished(), "woke a second early");
        clock.advance(Duration::from_secs(1));
        task.await.unwrap();
        assert_eq!((clock.sleepers(), clock.elapsed()), (0, Duration::from_secs(2)));
        assert_eq!(clock.now(), Timestamp::from_millis(2_010));
    }

    #[tokio::test]
    async fn a_dropped_sleep_is_no_sleeper() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let mut sleep = clock.sleep(Duration::from_secs(1));
        assert!(futures_poll(&mut sleep).await.is_none());
        assert_eq!(clock.sleepers(), 1);
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn blocking_sleepers_wake_too() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let sleeper = Arc::clone(&clock);
        let thread = std::thread::spawn(move || sleeper.sleep_blocking(Duration::from_secs(1)));
        let real = crate::SystemClock::shared();
        while clock.sleepers() == 0 {
            assert!(real.elapsed() < PATIENCE, "nobody sleeps");
            std::thread::yield_now();
        }
        clock.advance(Duration::from_secs(1));
        thread.join().unwrap();
        assert_eq!(clock.sleepers(), 0);
    }

    /// Polls once.
    async fn futures_poll(sleep: &mut Sleep<'_>) -> Option<()> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match sleep.as_mut().poll(context) {
                std::task::Poll::Ready(()) => Some(()),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
