//! Messages of every format, good and bad, and gateways that read them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod avro;
mod batches;
mod commits;
mod common;
mod csv;
mod evolution;
mod group;
mod ipc;
mod json;
mod plain;
mod protobuf;
mod random;
mod rebalance;
mod refused;
mod registry;
mod sinks;
