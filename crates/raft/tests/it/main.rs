//! The crate as its users see it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod coordinator;
mod digest;
