//! Whether the coordinator answers, for the health page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_coordinator::{Coordinator, CoordinatorExt as _, State};
use sheaf_retry::SharedClock;
use sheaf_telemetry::Status;
use tokio_util::sync::CancellationToken;

use super::census::Census;

/// How often it is asked.
const BEAT: Duration = Duration::from_secs(2);
/// How long an answer may take until it counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answer; clones share it.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Mutex<Status>>);

impl Pulse {
    /// Asks once now, and again until `stop`; the census is told every answer.
    pub(super) async fn start(
        coordinator: Arc<dyn Coordinator>,
        clock: SharedClock,
        stop: CancellationToken,
        census: Census,
    ) -> Self {
        let first = ask(coordinator.as_ref(), &clock, &census).await;
        let pulse = Pulse(Arc::new(Mutex::new(first)));
        pulse.keep(coordinator, clock, stop, (BEAT, census));
        pulse
    }

    /// As [`Pulse::start`], without waiting for the first answer: until it is
    /// there, the coordinator counts as down.
    pub(super) fn follow(
        coordinator: Arc<dyn Coordinator>,
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        let pulse = Pulse(Arc::new(Mutex::new(Status::down("not reached yet"))));
        pulse.keep(coordinator, clock, stop, (Duration::ZERO, Census::default()));
        pulse
    }

    fn keep(
        &self,
        coordinator: Arc<dyn Coordinator>,
        clock: SharedClock,
        stop: CancellationToken,
        (mut pause, census): (Duration, Census),
    ) {
        let kept = self.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                clock.sleep(std::mem::replace(&mut pause, BEAT)).await;
                let status = ask(coordinator.as_ref(), &clock, &census).await;
                *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
            }
        }));
    }

    pub(super) fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask(coordinator: &dyn Coordinator, clock: &SharedClock, census: &Census) -> Status {
    let answer = tokio::select! {
        answer = coordinator.stats(None) => answer,
        () = clock.sleep(PATIENCE) => {
            return Status::down(format!("no answer within {} s", PATIENCE.as_secs()));
        }
    };
    match answer {
        Ok(queues) => {
            census.note(&queues);
            let sum = |state: State| -> u64 {
                queues.iter().filter_map(|queue| queue.counts.get(&state)).sum()
            };
            let shown = [State::Pending, State::Scheduled, State::Processing, State::Failed];
            let words = shown.map(|state| format!("{} {state}", sum(state)));
            Status::up(words.join(", "))
        }
        Err(error) => Status::down(sheaf_flight::Error::from_error(error).message()),
    }
}
