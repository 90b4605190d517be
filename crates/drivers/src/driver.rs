//! What every driver does.

use std::time::Duration;

use async_trait::async_trait;
use sheaf_dataflow::Assignment;

/// Which start of an instance: another one with each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaunchId {
    /// The place in the registry: `PIPELINE:INSTANCE`.
    pub place: String,
    /// From 1, one more with each start of this place.
    pub attempt: u64,
}

/// An instance to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which start.
    pub id: LaunchId,
    /// What the component is told.
    pub assignment: Assignment,
    /// What goes into its environment beside that, resolved.
    pub environment: Vec<(String, sheaf_flight::Secret)>,
}

/// An instance has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which start.
    pub id: LaunchId,
    /// Whether it ended with success.
    pub success: bool,
    /// Why, for people: `exit status 1`, `killed by signal 9 (KILL)`, `out of memory`.
    pub why: String,
}

/// Why a driver cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct DriverError {
    /// What it was to do, such as `cannot start linear:numbers`.
    pub what: String,
    /// Why not, and what to do.
    pub why: String,
}

/// Starts and stops instances. The same file runs on every driver.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Its name: `process`, `docker`, `kubernetes`.
    fn name(&self) -> &'static str;

    /// Starts an instance, and answers when the platform has taken it on.
    ///
    /// # Errors
    /// Where there is no such program or image, or the platform refuses.
    async fn start(&self, launch: Launch) -> Result<(), DriverError>;

    /// Asks an instance to finish what it has, and ends it after `drain` if it has not. Answers
    /// when nothing of it runs any more; also where nothing did.
    ///
    /// # Errors
    /// Where the platform does not answer.
    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError>;

    /// The next instance that ended by itself or was ended. The future may be dropped.
    async fn ended(&self) -> Ended;

    /// What still runs of a pipeline, such as after a restart of the control plane.
    ///
    /// # Errors
    /// Where the platform does not answer.
    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError>;
}
