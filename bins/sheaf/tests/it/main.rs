//! The real binary: every command as people and programs use it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod bad_disk;
mod bad_input;
mod commands;
mod config;
mod harness;
mod kill;
mod lifecycle;
mod pyarrow;
mod refusals;
mod workers;
