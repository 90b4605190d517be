//! The kit itself, on real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod process;
mod server;
mod wait;
