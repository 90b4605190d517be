//! What looks after all components.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::TlsFiles;
use sheaf_retry::SharedClock;
use tokio::task::JoinHandle;

use super::{Endpoint, Poller};
use crate::control::ControlPlane;

/// Health endpoints that are looked at at a time.
const AT_ONCE: usize = 128;
/// After so long it is asked again how often to look.
const LONGEST: Duration = Duration::from_secs(1);

/// Has the control plane look who was silent, and looks at health endpoints;
/// until it is dropped.
///
/// A round of looks at endpoints begins when the one before is over: many that
/// do not answer make it longer, which silence does not wait for.
#[derive(Debug)]
pub struct Monitor {
    tasks: [JoinHandle<()>; 2],
}

impl Monitor {
    /// Begins to look, in the times of the control plane. Call it on a tokio runtime.
    pub fn start(plane: &ControlPlane, clock: &SharedClock) -> Self {
        Monitor::start_with(plane, None, clock)
    }

    /// As [`Monitor::start`], with what it takes to look under TLS.
    pub fn start_with(plane: &ControlPlane, tls: Option<TlsFiles>, clock: &SharedClock) -> Self {
        let (checking, polling) = (plane.clone(), plane.clone());
        let (check_clock, poll_clock) = (Arc::clone(clock), Arc::clone(clock));
        let check = tokio::spawn(async move {
            let mut last = check_clock.elapsed();
            loop {
                // Asked each time: a pipeline may have come whose times are shorter.
                let Ok(pace) = checking.pace().await else { return };
                let left = (last + pace.check_every).saturating_sub(check_clock.elapsed());
                check_clock.sleep(left.min(LONGEST)).await;
                if left > LONGEST {
                    continue;
                }
                last = check_clock.elapsed();
                if checking.check().await.is_err() {
                    return;
                }
            }
        });
        let poll = tokio::spawn(async move {
            let poller = Poller::new(polling.timing().poll_timeout, Arc::clone(&poll_clock));
            let poller = poller.with_tls(tls);
            let mut looked = HashMap::new();
            loop {
                let Ok(pace) = polling.pace().await else { return };
                poll_clock.sleep(pace.poll_every.min(LONGEST)).await;
                let now = poll_clock.elapsed();
                if look_at_all(&polling, &poller, &mut looked, now).await.is_err() {
                    return;
                }
            }
        });
        Monitor { tasks: [check, poll] }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Looks at everybody whose time has come. `looked` has when that was last.
async fn look_at_all(
    plane: &ControlPlane,
    poller: &Poller,
    looked: &mut HashMap<String, Duration>,
    now: Duration,
) -> Result<(), crate::registry::Error> {
    let all = plane.watched().await?;
    let before = std::mem::take(looked);
    let mut due = Vec::new();
    for watched in &all {
        let id = &watched.component.id;
        let last = before.get(id).copied();
        // A little early is better than a whole round late.
        let is_due = last.is_none_or(|last| now.saturating_sub(last) >= watched.every * 9 / 10);
        looked.insert(id.clone(), if is_due { now } else { last.unwrap_or(now) });
        if is_due && let Some(endpoint) = Endpoint::stored(&watched.component.health_endpoint) {
            due.push((watched, endpoint));
        }
    }
    let looks = due.into_iter().map(|(watched, endpoint)| async move {
        let component = &watched.component;
        let polled = poller.look_at(&endpoint, &watched.path).await;
        plane.polled(component.id.clone(), component.fence, polled).await
    });
    let looks: Vec<_> = looks.collect();
    let mut results = stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}
