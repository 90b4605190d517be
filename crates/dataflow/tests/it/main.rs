//! Components from outside: real Flight servers, a real control plane, real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod breaks;
mod cases;
mod crash;
mod durable;
mod durable_kills;
mod ends;
mod node;
mod parts;
mod policies;
mod ports;
mod replaced;
mod shapes;
mod speed;
