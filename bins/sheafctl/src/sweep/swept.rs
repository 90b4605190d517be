//! A driver that tells the second process what there is.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_drivers::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::Orders;
use super::line::Line;

/// A driver whose pipelines are removed too when this process is killed.
pub(crate) struct Swept {
    driver: Arc<dyn Driver>,
    line: Mutex<Line>,
}

impl Swept {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        program: &Path,
        orders: &Orders,
    ) -> Result<Self, Failure> {
        let line = Line::start(program, orders).map_err(|error| {
            let text = "the process cannot be started that clears up when this one is killed";
            Failure::new(Code::Io, text).because(error)
        })?;
        Ok(Swept { driver, line: Mutex::new(line) })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Driver for Swept {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    fn starts_stores(&self) -> bool {
        self.driver.starts_stores()
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        let place = &launch.id.place;
        // First, so that nothing is there that it does not know of.
        let begun = self.line().begun(place.split(':').next().unwrap_or_default());
        begun.map_err(|error| DriverError {
            what: format!("cannot start {place}"),
            why: format!("the process has ended that clears up after this one: {error}"),
        })?;
        self.driver.start(launch).await
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        self.driver.stop(id, drain).await
    }

    async fn ended(&self) -> Ended {
        self.driver.ended().await
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        self.driver.running(pipeline).await
    }

    async fn disturb(&self, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
        self.driver.disturb(id, how).await
    }

    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        self.driver.remove(pipeline, state).await?;
        self.line().removed(pipeline);
        Ok(())
    }

    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        self.driver.logs(places, tail, follow).await
    }
}
