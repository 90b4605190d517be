//! Whether the coordinator answers, for the health page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_coordinator::{Coordinator, CoordinatorExt as _, State};
use sheaf_retry::SharedClock;
use sheaf_telemetry::{Health, Status};
use tokio_util::sync::CancellationToken;

/// How often it is asked.
const BEAT: Duration = Duration::from_secs(2);
/// How long an answer may take until it counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answer; clones share it.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Mutex<Status>>);

impl Pulse {
    /// Asks once now, and again until `stop`.
    pub(super) async fn start(
        coordinator: Arc<dyn Coordinator>,
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        let first = ask(coordinator.as_ref(), &clock).await;
        let pulse = Pulse(Arc::new(Mutex::new(first)));
        let kept = pulse.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                clock.sleep(BEAT).await;
                let status = ask(coordinator.as_ref(), &clock).await;
                *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
            }
        }));
        pulse
    }

    /// As [`Pulse::start`], in the background: what does not answer yet shows
    /// on the health page when it is known, and is not waited for here.
    pub(super) fn follow(
        health: &Health,
        part: &'static str,
        coordinator: Arc<dyn Coordinator>,
        clock: &SharedClock,
        stop: &CancellationToken,
    ) {
        let (health, clock, token) = (health.clone(), clock.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let pulse = Pulse::start(coordinator, clock, token).await;
            health.register(part, move || pulse.status());
        }));
    }

    pub(super) fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask(coordinator: &dyn Coordinator, clock: &SharedClock) -> Status {
    let answer = tokio::select! {
        answer = coordinator.stats(None) => answer,
        () = clock.sleep(PATIENCE) => {
            return Status::down(format!("no answer within {} s", PATIENCE.as_secs()));
        }
    };
    match answer {
        Ok(queues) => {
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
