//! Pipelines on Kubernetes: as manifests, and by a driver.
//!
//! [`render()`] is for a cluster that keeps a pipeline up by itself: deployments and stateful
//! sets start pods again. [`KubernetesDriver`] is for whoever keeps it up from outside: it
//! starts one pod for each launch, which the cluster never starts again, since when and
//! whether to do so, and what an end means, is for whoever asked. The rest of the objects are
//! the same.

mod cluster;
mod control;
mod driver;
mod error;
mod launched;
mod names;
mod network;
mod object;
mod pod;
mod render;
mod secrets;
mod settings;
mod state;
mod tokens;
mod watch;
mod workload;

pub use cluster::Cluster;
pub use driver::KubernetesDriver;
pub use object::Object;
pub use render::{Rendered, render};
pub use secrets::Wanted;
pub use settings::{RenderError, Settings};

#[cfg(test)]
mod tests;
