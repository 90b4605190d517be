//! The drivers of containers against a real engine and a server of our own.

#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "docker")]
mod engine;
mod launch;
