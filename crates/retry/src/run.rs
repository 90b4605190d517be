//! Calling again until it works or must stop.

use std::fmt;
use std::time::Duration;

use crate::{Delays, Disposition, Error, Failure, Limit, RetryPolicy, Retryable};
use crate::{Schedule, SharedClock};

/// A wait that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Which retry it leads to, from 1.
    pub retry: u32,
    /// How long it will be.
    pub delay: Duration,
    /// Since the first attempt began.
    pub elapsed: Duration,
}

/// One run of retries, not yet begun.
///
/// The free functions ([`retry`] and its kin) do for most callers; this is for
/// those who want to see the waits, or bring delays of their own.
///
/// ```
/// use sheaf_retry::{ManualClock, Retry, RetryPolicy, Timestamp};
///
/// let clock = ManualClock::auto(Timestamp::EPOCH); // sleeps take no time
/// let mut waits = Vec::new();
/// let answer = Retry::new(&RetryPolicy::default(), 42, clock)
///     .on_wait(|wait| waits.push(wait.retry))
///     .run_blocking_if(
///         |attempt| if attempt < 3 { Err("not yet") } else { Ok(attempt) },
///         |error| *error == "not yet",
///     );
/// assert_eq!(answer, Ok(3));
/// assert_eq!(waits, [1, 2]);
/// ```
pub struct Retry<'a, D = Schedule> {
    delays: D,
    clock: SharedClock,
    on_wait: Option<Box<dyn FnMut(Wait) + Send + 'a>>,
}

impl<'a> Retry<'a, Schedule> {
    /// A run with the delays of `policy`, jitter from `seed`, time from `clock`.
    pub fn new(policy: &RetryPolicy, seed: u64, clock: SharedClock) -> Self {
        Retry::with_delays(policy.schedule(seed), clock)
    }
}

impl<'a, D: Delays> Retry<'a, D> {
    /// A run whose delays come from elsewhere.
    pub fn with_delays(delays: D, clock: SharedClock) -> Self {
        Retry { delays, clock, on_wait: None }
    }

    /// Calls `observe` before every wait, for a log line or a counter.
    #[must_use]
    pub fn on_wait(self, observe: impl FnMut(Wait) + Send + 'a) -> Self {
        Retry { on_wait: Some(Box::new(observe)), ..self }
    }

    /// As [`retry`].
    ///
    /// # Errors
    /// As [`retry`].
    pub async fn run<T, E, F, Fut>(self, op: F) -> Result<T, Error<E>>
    where
        E: Retryable,
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.drive(op, Retryable::disposition).await
    }

    /// As [`retry_if`].
    ///
    /// # Errors
    /// As [`retry_if`].
    pub async fn run_if<T, E, F, Fut, P>(self, op: F, mut again: P) -> Result<T, Error<E>>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: FnMut(&E) -> bool,
    {
        self.drive(op, |error| by_predicate(again(error))).await
    }

    /// As [`retry_blocking`].
    ///
    /// # Errors
    /// As [`retry_blocking`].
    pub fn run_blocking<T, E, F>(self, op: F) -> Result<T, Error<E>>
    where
        E: Retryable,
        F: FnMut(u32) -> Result<T, E>,
    {
        self.drive_blocking(op, Retryable::disposition)
    }

    /// As [`retry_blocking_if`].
    ///
    /// # Errors
    /// As [`retry_blocking_if`].
    pub fn run_blocking_if<T, E, F, P>(self, op: F, mut again: P) -> Result<T, Error<E>>
    where
        F: FnMut(u32) -> Result<T, E>,
        P: FnMut(&E) -> bool,
    {
        self.drive_blocking(op, |error| by_predicate(again(error)))
    }

    async fn drive<T, E, F, Fut, C>(mut self, mut op: F, mut classify: C) -> Result<T, Error<E>>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: FnMut(&E) -> Disposition,
    {
        let mut run = Progress { attempts: 1, start: self.clock.elapsed() };
        loop {
            let error = match op(run.attempts).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let disposition = classify(&error);
            let delay = self.after_failure(&mut run, disposition, error)?;
            self.clock.sleep(delay).await;
        }
    }

    fn drive_blocking<T, E, F, C>(mut self, mut op: F, mut classify: C) -> Result<T, Error<E>>
    where
        F: FnMut(u32) -> Result<T, E>,
        C: FnMut(&E) -> Disposition,
    {
        let mut run = Progress { attempts: 1, start: self.clock.elapsed() };
        loop {
            let error = match op(run.attempts) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let disposition = classify(&error);
            let delay = self.after_failure(&mut run, disposition, error)?;
            self.clock.sleep_blocking(delay);
        }
    }

    /// How long to wait before the next attempt, or the error to end with.
    fn after_failure<E>(
        &mut self,
        run: &mut Progress,
        disposition: Disposition,
        source: E,
    ) -> Result<Duration, Error<E>> {
        let attempts = run.attempts;
        let elapsed = self.clock.elapsed().saturating_sub(run.start);
        let hint = match disposition {
            Disposition::Transient { after } => after,
            Disposition::Permanent => return Err(Error::Permanent { attempts, elapsed, source }),
            Disposition::Exhausted => {
                return Err(Error::Exhausted { attempts, elapsed, limit: Limit::Inner, source });
            }
        };
        match self.delays.next_delay(Failure { elapsed, hint }) {
            Ok(delay) => {
                if let Some(observe) = &mut self.on_wait {
                    observe(Wait { retry: attempts, delay, elapsed });
                }
                run.attempts = attempts.saturating_add(1);
                Ok(delay)
            }
            Err(limit) => Err(Error::Exhausted { attempts, elapsed, limit, source }),
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Retry<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("delays", &self.delays)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// How far a run has come.
struct Progress {
    /// The attempt under way, from 1.
    attempts: u32,
    /// The clock's reading when the first one began.
    start: Duration,
}

fn by_predicate(again: bool) -> Disposition {
    if again { Disposition::Transient { after: None } } else { Disposition::Permanent }
}

/// Calls `op` until it succeeds, fails for good, or `policy` is used up.
///
/// `op` gets the number of the attempt, from 1; the first one starts at once.
/// Whether an error is worth another attempt is for the error to say
/// ([`Retryable::disposition`]); its hint lengthens the wait, never beyond the
/// policy's cap.
///
/// Cancel-safe: nothing is spawned and nothing is held between attempts, so
/// dropping the future ends the run, and what a dropped attempt leaves behind
/// is up to `op` alone. An attempt that hangs is not cut short either: put a
/// timeout inside `op`.
///
/// # Errors
/// - [`Error::Permanent`]: an attempt failed with an error that is not transient.
/// - [`Error::Exhausted`]: the last retry failed, or the next one would miss
///   the deadline (it is not waited for).
///
/// ```
/// use std::io;
/// use sheaf_retry::{RetryPolicy, SystemClock, retry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sheaf_retry::Error<io::Error>> {
/// let policy = RetryPolicy { base_ms: 1, ..RetryPolicy::default() };
/// let answer = retry(&policy, 42, SystemClock::shared(), |attempt| async move {
///     match attempt {
///         1 => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
///         _ => Ok("served"),
///     }
/// })
/// .await?;
/// assert_eq!(answer, "served");
/// # Ok(())
/// # }
/// ```
pub async fn retry<T, E, F, Fut>(
    policy: &RetryPolicy,
    seed: u64,
    clock: SharedClock,
    op: F,
) -> Result<T, Error<E>>
where
    E: Retryable,
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    Retry::new(policy, seed, clock).run(op).await
}

/// [`retry`] for errors that do not classify themselves: `again` says whether
/// an error is worth another attempt.
///
/// # Errors
/// As [`retry`]; `again` answering `false` makes [`Error::Permanent`].
pub async fn retry_if<T, E, F, Fut, P>(
    policy: &RetryPolicy,
    seed: u64,
    clock: SharedClock,
    op: F,
    again: P,
) -> Result<T, Error<E>>
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    P: FnMut(&E) -> bool,
{
    Retry::new(policy, seed, clock).run_if(op, again).await
}

/// [`retry`] on a thread that may block: the same schedule for the same seed.
///
/// # Errors
/// As [`retry`].
pub fn retry_blocking<T, E, F>(
    policy: &RetryPolicy,
    seed: u64,
    clock: SharedClock,
    op: F,
) -> Result<T, Error<E>>
where
    E: Retryable,
    F: FnMut(u32) -> Result<T, E>,
{
    Retry::new(policy, seed, clock).run_blocking(op)
}

/// [`retry_if`] on a thread that may block.
///
/// # Errors
/// As [`retry_if`].
pub fn retry_blocking_if<T, E, F, P>(
    policy: &RetryPolicy,
    seed: u64,
    clock: SharedClock,
    op: F,
    again: P,
) -> Result<T, Error<E>>
where
    F: FnMut(u32) -> Result<T, E>,
    P: FnMut(&E) -> bool,
{
    Retry::new(policy, seed, clock).run_blocking_if(op, again)
}
