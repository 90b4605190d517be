//! Pipelines in containers of a Docker engine.
//!
//! | of the pipeline | in the engine |
//! |---|---|
//! | pipeline | a network of its own, with fixed addresses |
//! | place | a named volume with its state, which outlives its containers |
//! | start of a place | one container, which the engine never starts again: that is for whoever watches |
//! | assignment | a file in the container that its user alone may read |
//!
//! Everything carries labels: `dev.sheaf.pipeline`, `dev.sheaf.place`, `dev.sheaf.attempt`.
//! The driver needs Linux: it speaks to components by the addresses of their containers.

mod archive;
mod driver;
mod error;
mod gate;
mod names;
mod network;
mod render;
mod request;
mod settings;
mod watch;

pub use driver::DockerDriver;
pub use render::render;
pub use request::{Request, request};
pub use settings::{LookUp, Settings};
