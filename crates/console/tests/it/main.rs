//! The console over real connections.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

mod batches;
mod events;
mod requests;
mod world;
