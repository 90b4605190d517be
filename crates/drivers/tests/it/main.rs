//! Drivers with real processes.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod process;
mod runner;
