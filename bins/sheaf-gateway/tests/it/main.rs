//! The gateway as a process, in front of a real broker.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod harness;
mod persist;
mod persist_files;
mod pyarrow;
mod register;
mod registry;
mod schemas;
mod security;
mod serve;
