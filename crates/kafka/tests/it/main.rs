//! Messages of every format, good and bad, from outside.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod avro;
mod batches;
mod common;
mod csv;
mod evolution;
mod ipc;
mod json;
mod plain;
mod protobuf;
mod random;
mod registry;
mod sinks;
