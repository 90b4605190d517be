//! The control plane over loopback: real gRPC, real files, real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod crash;
mod damage;
mod full;
mod harness;
mod hostile;
mod many;
mod member;
mod pipelines;
mod poll;
mod register;
mod silence;
mod watch;
