//! What looks after all components.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use sheaf_retry::SharedClock;
use tokio::task::JoinHandle;

use super::{Endpoint, Poller};
use crate::control::ControlPlane;
use crate::registry::{Component, Filter, Status};

/// Health endpoints that are looked at at a time.
const AT_ONCE: usize = 128;

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
        let (checking, polling) = (plane.clone(), plane.clone());
        let (check_clock, poll_clock) = (Arc::clone(clock), Arc::clone(clock));
        let check = tokio::spawn(async move {
            let every = checking.timing().check_every;
            loop {
                check_clock.sleep(every).await;
                if checking.check().await.is_err() {
                    return;
                }
            }
        });
        let poll = tokio::spawn(async move {
            let every = polling.timing().poll_every;
            let poller = Poller::new(polling.timing().poll_timeout, Arc::clone(&poll_clock));
            loop {
                poll_clock.sleep(every).await;
                if look_at_all(&polling, &poller).await.is_err() {
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

async fn look_at_all(plane: &ControlPlane, poller: &Poller) -> Result<(), crate::registry::Error> {
    let statuses = vec![Status::Healthy, Status::Unhealthy];
    let filter = Filter { statuses, ..Filter::default() };
    let all = plane.select(filter).await?;
    let asked = all.iter().filter_map(|component: &Arc<Component>| {
        Some((component, Endpoint::stored(&component.health_endpoint)?))
    });
    let looks = asked.map(|(component, endpoint)| async move {
        let polled = poller.look(&endpoint).await;
        plane.polled(component.id.clone(), component.fence, polled).await
    });
    let looks: Vec<_> = looks.collect();
    let mut results = stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}
