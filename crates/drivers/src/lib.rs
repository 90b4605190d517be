//! Runs the components of pipelines: as processes, in containers, on Kubernetes.

#[cfg(feature = "docker")]
pub mod docker;
mod driver;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ends;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod planned;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ports;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod references;

pub use driver::{Driver, DriverError, Ended, Launch, LaunchId};
