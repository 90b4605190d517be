//! Instances that somebody else starts.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Driver, DriverError, Ended, Launch, LaunchId};

/// Stands where a driver would, for a control plane whose components a cluster starts and
/// stops: it starts nothing, and knows of nothing that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere;

#[async_trait]
impl Driver for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        let what = format!("cannot start {}", launch.id.place);
        let why = "the components of this control plane are started by others".to_owned();
        Err(DriverError { what, why })
    }

    async fn stop(&self, _: &LaunchId, _: Duration) -> Result<(), DriverError> {
        Ok(())
    }

    async fn ended(&self) -> Ended {
        std::future::pending().await
    }

    async fn running(&self, _: &str) -> Result<Vec<LaunchId>, DriverError> {
        Ok(Vec::new())
    }
}
