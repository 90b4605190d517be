//! The worker pool against a real embedded coordinator and real file sinks.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod failures;
mod outage;
mod payloads;
mod pool;
mod programs;
mod shuffle;
mod shutdown;
mod support;
mod traces;
