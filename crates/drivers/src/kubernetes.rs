//! Pipelines on Kubernetes: as manifests, and by a driver.

mod assign;
mod control;
mod names;
mod network;
mod object;
mod pod;
mod render;
mod scale;
mod secrets;
mod settings;
mod state;
mod tokens;
mod workload;

pub use object::Object;
pub use render::{Rendered, render};
pub use secrets::Wanted;
pub use settings::{RenderError, Settings};
pub use tokens::Tokens;

#[cfg(test)]
mod tests;
