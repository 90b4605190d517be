//! The built-in sources, processors and sinks of pipelines.

pub mod processors;
