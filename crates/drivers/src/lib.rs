//! Runs the components of pipelines: as processes, in containers, on Kubernetes.

mod driver;
pub mod process;

pub use driver::{Driver, DriverError, Ended, Launch, LaunchId, LogLine};
