//! The gateway as a process, in front of a real broker.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod database;
mod faults;
mod harness;
mod hostile;
mod orders;
mod persist;
mod persist_files;
mod pyarrow;
mod rebalance;
mod register;
mod registry;
mod schemas;
mod security;
mod serve;
mod stalled;
mod start;
mod steady;
