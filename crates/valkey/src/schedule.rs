//! When the server has something to do that nobody asks for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sheaf_retry::SharedClock;
use tokio::sync::Notify;

/// Longest time between two looks, which find what other processes left.
const LONGEST: Duration = Duration::from_secs(1);

/// The next time at which something falls due, by this process's clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    clock: SharedClock,
    next: Mutex<Duration>,
    earlier: Notify,
}

impl Schedule {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Schedule { clock, next: Mutex::new(Duration::MAX), earlier: Notify::new() }
    }

    /// The server said at its `now` that something falls due at `due`, microseconds.
    pub(crate) fn note(&self, now: u64, due: u64) {
        let at = self.clock.elapsed() + Duration::from_micros(due.saturating_sub(now)).min(LONGEST);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if at < *next {
            *next = at;
            drop(next);
            self.earlier.notify_one();
        }
    }

    /// Returns when something is due, or it is time to look.
    pub(crate) async fn due(&self) {
        let latest = self.clock.elapsed() + LONGEST;
        loop {
            let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.elapsed();
            let until = next.min(latest);
            if until <= now {
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Duration::MAX;
                return;
            }
            tokio::select! {
                () = self.clock.sleep(until - now) => {}
                () = self.earlier.notified() => {}
            }
        }
    }
}
