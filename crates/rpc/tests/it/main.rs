//! The coordinator through gRPC and through Flight actions, over loopback.
#![allow(clippy::unwrap_used, clippy::large_futures, missing_docs, reason = "tests")]

mod actions;
mod conformance;
mod connection;
mod directory;
mod errors;
mod harness;
mod json_work;
mod lost_replies;
mod pickup;
mod replicated;
mod storm;
mod stream;
mod watch;
