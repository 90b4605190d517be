//! Nodes over real sockets of this machine.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod calls;
mod faults;
mod health;
mod logs;
mod raw;
mod security;
mod streams;
mod support;
