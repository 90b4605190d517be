//! Sources, sinks and external programs from outside.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod common;
mod conformance;
mod crash;
mod disk_full;
mod exec;
mod recovery;
mod sources;
mod speed;
mod types;
