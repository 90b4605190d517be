//! What the loops of all roles have in common.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sheaf_retry::{Disposition, Jitter, RetryPolicy, Retryable as _, SharedClock};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::component::Received;
use crate::error::ComponentError;
use crate::inlet::Inlets;
use crate::pace::Pace;
use crate::spans::Spans;
use crate::stats::Stats;

/// How often a loop comes round where nothing else happens.
pub(super) const ROUND: Duration = Duration::from_millis(100);

/// When what failed for a while is tried again.
const RETRY: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 100, cap_ms: 10_000, ..RetryPolicy::TRANSFER };

/// What each loop is given.
pub(super) struct Loop {
    pub(super) pace: Pace,
    pub(super) clock: SharedClock,
    /// It is to come to an end.
    pub(super) stop: CancellationToken,
    /// When it was seen that it is.
    pub(super) stopped_at: OnceLock<Duration>,
    /// How long that may take.
    pub(super) drain: Duration,
    pub(super) instance: String,
    pub(super) spans: Arc<Spans>,
    pub(super) stats: Arc<Stats>,
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All inputs have ended, or the source has.
    Ended,
    /// It was told to stop.
    Stopped,
    /// It was, and its readers did not acknowledge everything in the time that they had.
    Undrained,
}

impl Ending {
    /// Of a component that was told to stop.
    pub(super) fn stopped(is_drained: bool) -> Self {
        if is_drained { Ending::Stopped } else { Ending::Undrained }
    }
}

/// Comes round ten times a second.
pub(super) fn rounds() -> Interval {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds
}

/// How often a call of the component failed, one time after another. Statistics tell of it as
/// long as it goes on.
#[derive(Default)]
pub(super) struct Failures {
    count: u32,
    told: Option<Arc<Stats>>,
}

impl Loop {
    /// Waits after an error that passes; gives back any other, and every one where the
    /// component is to stop.
    pub(super) async fn after(
        &self,
        error: ComponentError,
        failures: &mut Failures,
    ) -> Result<(), ComponentError> {
        let Disposition::Transient { after } = error.disposition() else { return Err(error) };
        if self.stop.is_cancelled() {
            return Err(error);
        }
        let delay = RETRY.delay_seeded(failures.count.min(32), Jitter::seed_of(&self.instance));
        let mut rest = after.or(delay).unwrap_or(ROUND);
        failures.count = failures.count.saturating_add(1);
        let why = error.chain();
        self.stats.retries(Some(format!("failed {} times, tries again: {why}", failures.count)));
        failures.told = Some(Arc::clone(&self.stats));
        tracing::warn!(component = self.instance, why, ?rest, "failed, trying again");
        while !rest.is_zero() {
            let step = rest.min(ROUND);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.clock.sleep(step) => {}
            }
            rest -= step;
            self.pace.round();
        }
        Ok(())
    }

    /// The component cannot take a batch, and ends: says so of the batch, unless the component
    /// was told to stop, or nobody is left to take what it writes.
    pub(super) async fn failed(
        &self,
        inlets: &Inlets,
        received: &Received,
        error: ComponentError,
    ) -> ComponentError {
        match self.stop.is_cancelled() || error.is_closed() {
            true => error,
            false => inlets.failed(received, error).await,
        }
    }

    /// Now, where that is asked for the span of what begins.
    pub(super) fn begun(&self) -> Option<Duration> {
        self.spans.are_recorded().then(|| self.clock.elapsed())
    }

    /// How long ago something begun; nothing where nobody asks.
    pub(super) fn ago(&self, begun: Option<Duration>) -> Duration {
        begun.map_or(Duration::ZERO, |begun| self.clock.elapsed().saturating_sub(begun))
    }

    /// Until when it may take, now that it is to come to an end.
    fn drained_by(&self) -> Duration {
        self.stopped_at.get_or_init(|| self.clock.elapsed()).saturating_add(self.drain)
    }

    /// Ready when it was told to come to an end, and the time for that is over.
    pub(super) async fn overdue(&self) {
        self.stop.cancelled().await;
        let until = self.drained_by();
        self.clock.sleep(until.saturating_sub(self.clock.elapsed())).await;
    }

    /// Waits until a condition holds that is looked at in each round, `false` where it does not
    /// in the time that a drain has.
    pub(super) async fn drained(&self, mut is_done: impl FnMut() -> bool) -> bool {
        let until = self.drained_by();
        while !is_done() {
            if self.clock.elapsed() >= until {
                return false;
            }
            self.pace.round();
            self.clock.sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

impl Failures {
    /// It works again.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        if let Some(stats) = self.told.take() {
            stats.retries(None);
        }
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        self.clear();
    }
}
