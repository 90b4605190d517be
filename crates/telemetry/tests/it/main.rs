//! Traces on their way to a collector.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod traces;
