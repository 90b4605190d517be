//! The crate from outside: files, and the control plane over loopback with real
//! gRPC, real files, real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod crash;
mod damage;
mod examples;
mod full;
mod harness;
mod hostile;
mod many;
mod member;
mod mutations;
mod pipelines;
mod poll;
mod problems;
mod register;
mod schema;
mod silence;
mod watch;
