//! Components from outside, against the real thing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod adbc;
mod aggregate;
mod bucket;
mod common;
mod enrich;
mod exec;
mod expression;
mod file;
mod flight;
mod generate;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod naive;
mod print;
mod rows;
mod server;
mod sql;
mod support;
