//! Loads that criterion benches and comparisons share.
//!
//! The comparisons with peers are the binary of this package: `cargo xtask
//! bench NAME` builds it, installs the peers and runs it.
#![allow(clippy::disallowed_methods, reason = "a benchmark: it measures real time")]

pub mod embedded;
pub mod plane;
pub mod shuffled;
