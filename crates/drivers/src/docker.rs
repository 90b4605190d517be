//! Pipelines in containers of a Docker engine.
//!
//! | of the pipeline | in the engine |
//! |---|---|
//! | pipeline | a network of its own, with fixed addresses |
//! | place | a folder of this machine with its state, or a named volume, which outlives its containers |
//! | start of a place | one container, which the engine never starts again: that is for whoever watches |
//! | assignment | a file in the container that its user alone may read |
//!
//! Everything carries labels: `dev.sheaf.pipeline`, `dev.sheaf.place`, `dev.sheaf.attempt`.
//! The driver needs Linux: it speaks to components by the addresses of their containers.

mod archive;
mod disturb;
mod driver;
mod error;
mod gate;
mod logs;
mod names;
mod network;
mod prints;
mod render;
mod request;
mod settings;
mod watch;

pub use driver::DockerDriver;
pub use render::render;
pub use request::{Around, Request, User, request};
pub use settings::Settings;
