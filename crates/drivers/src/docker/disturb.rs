//! Harm that is done to a container on purpose.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use sheaf_retry::SharedClock;

use super::names;
use crate::driver::{Disturbance, LaunchId};

/// How long a container that is slowed runs each time.
const RUNS: Duration = Duration::from_millis(10);

/// Who stands still, or is slow.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbed(Arc<Mutex<HashSet<LaunchId>>>);

impl Disturbed {
    fn all(&self) -> std::sync::MutexGuard<'_, HashSet<LaunchId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it stands still, or did a moment ago.
    pub(super) fn has(&self, id: &LaunchId) -> bool {
        self.all().contains(id)
    }

    /// `None` where it is disturbed already.
    pub(super) fn begin(&self, id: &LaunchId, engine: &Docker) -> Option<Still> {
        let is_first = self.all().insert(id.clone());
        // Made only where it is the first: when it is dropped, another one may begin.
        is_first.then(|| Still { id: id.clone(), engine: engine.clone(), disturbed: self.clone() })
    }
}

/// A container that is stopped now and then.
pub(super) struct Still {
    id: LaunchId,
    engine: Docker,
    disturbed: Disturbed,
}

impl Still {
    pub(super) async fn pause(&self) -> Result<(), Error> {
        self.engine.pause_container(&names::container(&self.id)).await
    }

    /// Until the time is over, or the container. It runs then.
    pub(super) async fn stand(self, how: Disturbance, clock: SharedClock) {
        let Some((time, delay)) = how.times() else { return };
        let name = names::container(&self.id);
        let until = clock.elapsed().saturating_add(time);
        loop {
            clock.sleep(delay).await;
            if let Err(error) = self.engine.unpause_container(&name).await {
                // It has ended, or somebody else has let it go on.
                tracing::debug!(%error, container = name, "it goes on already");
                return;
            }
            if clock.elapsed() >= until {
                return;
            }
            clock.sleep(RUNS).await;
            if let Err(error) = self.pause().await {
                tracing::debug!(%error, container = name, "it cannot be stopped again");
                return;
            }
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.disturbed.all().remove(&self.id);
    }
}
