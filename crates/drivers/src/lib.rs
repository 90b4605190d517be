//! Runs the components of pipelines: as processes, in containers, on Kubernetes.
//!
//! A [`Driver`] starts and stops instances; a [`runner::Runner`] says which and when;
//! [`control`] is the same over the network.

pub mod control;
#[cfg(feature = "docker")]
pub mod docker;
mod driver;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ends;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod planned;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ports;
pub mod process;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod references;
pub mod runner;

pub use driver::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine};
