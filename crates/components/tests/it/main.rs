//! Components from outside, against the real thing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod adbc;
mod bucket;
mod common;
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
mod support;
