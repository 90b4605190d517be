//! The drivers of containers: against a real Docker engine, and against an API server of our
//! own that takes what a cluster takes.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[cfg(feature = "kubernetes")]
mod api;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "docker")]
mod engine;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod launch;
#[cfg(feature = "docker")]
mod shell;
