//! Against real servers.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
mod mutants;
