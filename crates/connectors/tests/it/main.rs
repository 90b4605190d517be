//! Sources, sinks and external programs from outside.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod adbc;
mod adbc_kill;
mod adbc_types;
mod common;
mod conformance;
mod crash;
mod disk_full;
mod exec;
mod recovery;
mod sources;
mod speed;
mod topic_files;
mod types;
mod worker;
