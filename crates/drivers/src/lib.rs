//! Runs the components of pipelines: as processes, in containers, on Kubernetes.
//!
//! A [`Driver`] starts and stops instances; a [`runner::Runner`] says which and when;
//! [`control`] is the same over the network.

mod authority;
mod beside;
pub mod control;
mod disturbed;
#[cfg(feature = "docker")]
pub mod docker;
mod driver;
mod elsewhere;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ends;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod lookup;
mod planned;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod ports;
pub mod process;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod references;
pub mod runner;
mod tokens;

pub use authority::Authority;
pub use beside::StoreBeside;
pub use driver::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine};
pub use elsewhere::Elsewhere;
pub use tokens::Tokens;

/// The image that `cargo xtask image` makes of this version: it has every program.
pub const IMAGE: &str = concat!("sheaf:", env!("CARGO_PKG_VERSION"));

/// What containers of built-in components run.
#[cfg(any(feature = "docker", feature = "kubernetes"))]
pub(crate) const RUN: [&str; 2] = ["sheaf-component", "run"];
