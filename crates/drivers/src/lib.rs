//! Runs the components of pipelines: as processes, in containers, on Kubernetes.
//!
//! A [`Driver`] starts and stops instances; a [`runner::Runner`] says which and when;
//! [`control`] is the same over the network.

pub mod control;
mod driver;
pub mod process;
pub mod runner;

pub use driver::{Driver, DriverError, Ended, Launch, LaunchId, LogLine};
