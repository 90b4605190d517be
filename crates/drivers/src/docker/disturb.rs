//! Harm that is done to a container on purpose.

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::KillContainerOptionsBuilder;
use sheaf_retry::SharedClock;

use super::error::{has_status, is_missing, refused};
use super::names;
use crate::disturbed::{Disturbed, Halts};
use crate::driver::{Disturbance, DriverError, LaunchId};

/// A container, as the engine knows it.
struct Container {
    name: String,
    engine: Docker,
}

impl Halts for Container {
    async fn halt(&self) -> bool {
        let paused = self.engine.pause_container(&self.name).await;
        // It has ended.
        paused
            .inspect_err(|error| tracing::debug!(%error, self.name, "it cannot be stopped"))
            .is_ok()
    }

    async fn go_on(&self) -> bool {
        let gone_on = self.engine.unpause_container(&self.name).await;
        // It has ended, or somebody else has let it go on.
        gone_on
            .inspect_err(|error| tracing::debug!(%error, self.name, "it goes on already"))
            .is_ok()
    }
}

/// See [`Driver::disturb`](crate::Driver::disturb).
pub(super) async fn disturb(
    engine: &Docker,
    (disturbed, clock): (&Disturbed, &SharedClock),
    id: &LaunchId,
    how: Disturbance,
) -> Result<(), DriverError> {
    let what = || format!("cannot disturb {}", id.place);
    let why = |why: &str| DriverError { what: what(), why: why.to_owned() };
    how.check().map_err(|error| why(&error))?;
    let failed = |error: Error| match is_missing(&error) || has_status(&error, 409) {
        true => why("it does not run at the moment"),
        false => refused(what(), &error),
    };
    let (name, engine) = (names::container(id), engine.clone());
    if how == Disturbance::Kill {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        return engine.kill_container(&name, Some(options)).await.map_err(failed);
    }
    let turn = disturbed
        .begin(id)
        .ok_or_else(|| why("it stands still or is slowed already; wait until that is over"))?;
    engine.pause_container(&name).await.map_err(failed)?;
    let (container, clock) = (Container { name, engine }, SharedClock::clone(clock));
    tokio::spawn(async move { turn.stand(&container, how, &clock).await });
    Ok(())
}
