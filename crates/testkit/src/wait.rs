//! Waiting for conditions instead of sleeping.

use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};

use crate::Error;

/// Between two looks at a condition: short at first, for most come true at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value.
///
/// `what` completes the sentence "waited 10s for …".
///
/// # Errors
/// [`Error::TimedOut`] when `timeout` has passed. There is always a last look
/// after that, so a slow machine does not fail a condition that holds.
pub fn wait_for<T>(
    timeout: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Error> {
    let mut pauses = Pauses::new(timeout);
    loop {
        let last = pauses.over();
        match look() {
            Some(value) => return Ok(value),
            None if last => return Err(pauses.timed_out(what)),
            None => {
                let pause = pauses.next();
                pauses.clock.sleep_blocking(pause);
            }
        }
    }
}

/// Looks until `condition` holds.
///
/// # Errors
/// As [`wait_for`].
///
/// ```
/// use std::time::Duration;
///
/// let mut looks = 0;
/// sheaf_testkit::wait_until(Duration::from_secs(10), "a third look", || {
///     looks += 1;
///     looks == 3
/// })?;
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
pub fn wait_until(
    timeout: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<(), Error> {
    wait_for(timeout, what, || condition().then_some(()))
}

/// [`wait_for`] for async tests.
///
/// # Errors
/// As [`wait_for`]; `look` itself is not cut short.
pub async fn wait_for_async<T, F, Fut>(
    timeout: Duration,
    what: &str,
    mut look: F,
) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let mut pauses = Pauses::new(timeout);
    loop {
        let last = pauses.over();
        match look().await {
            Some(value) => return Ok(value),
            None if last => return Err(pauses.timed_out(what)),
            None => {
                let pause = pauses.next();
                pauses.clock.sleep(pause).await;
            }
        }
    }
}

/// [`wait_until`] for async tests.
///
/// # Errors
/// As [`wait_for_async`].
pub async fn wait_until_async<F, Fut>(
    timeout: Duration,
    what: &str,
    mut condition: F,
) -> Result<(), Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    wait_for_async(timeout, what, || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
    .await
}

struct Pauses {
    clock: SharedClock,
    start: Duration,
    timeout: Duration,
    pause: Duration,
}

impl Pauses {
    fn new(timeout: Duration) -> Self {
        let clock = SystemClock::shared();
        let start = clock.elapsed();
        Pauses { clock, start, timeout, pause: FIRST_PAUSE }
    }

    fn over(&self) -> bool {
        self.clock.elapsed().saturating_sub(self.start) >= self.timeout
    }

    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    fn timed_out(&self, what: &str) -> Error {
        let output = String::new();
        Error::TimedOut { what: what.to_owned(), timeout: self.timeout, output }
    }
}
