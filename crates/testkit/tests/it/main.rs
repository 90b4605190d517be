//! The kit itself, on real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod call_proxy;
mod fault_proxy;
mod process;
mod server;
mod wait;
