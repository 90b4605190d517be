//! Time as a dependency: nothing in the libraries reads a clock of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Timestamp;

/// What [`Clock::sleep`] returns: resolves once the time has passed.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where a component gets the time from, and how it waits.
///
/// 1. `now` is wall-clock time and may jump either way.
/// 2. `elapsed` never goes back within one process; its zero is arbitrary.
/// 3. `sleep(d)` and `sleep_blocking(d)` return only when `elapsed` has grown
///    by `d` or more since they were called.
/// 4. Dropping the future of `sleep` ends the wait and has no other effect.
///
/// The provided waiting methods use real time (`sleep` needs a tokio runtime
/// with its timer enabled); a clock that does not show real time overrides
/// them, as [`ManualClock`](crate::ManualClock) does.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;

    /// Monotonic time since an arbitrary start.
    fn elapsed(&self) -> Duration;

    /// Waits without blocking the thread.
    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(duration))
    }

    /// Waits by blocking the thread: never call it from async code.
    fn sleep_blocking(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that many components hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock, ready to share.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock { start: std::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_moves_by_what_it_slept() {
        let clock = SystemClock::shared();
        let (wall, before) = (clock.now(), clock.elapsed());
        clock.sleep_blocking(Duration::from_millis(2));
        assert!(clock.elapsed() - before >= Duration::from_millis(2));
        assert!(wall > Timestamp::EPOCH);
    }

    #[tokio::test]
    async fn system_clock_sleeps_without_blocking() {
        let clock = SystemClock::shared();
        let before = clock.elapsed();
        clock.sleep(Duration::from_millis(2)).await;
        assert!(clock.elapsed() - before >= Duration::from_millis(2));
    }
}
