//! The node in a world of its own: one thread, a clock that jumps, a network and disks that do
//! what a seed says. The same seed is the same run, in any process.
//!
//! The node is the real one, with its engine, its wire messages and its checks; only links, log
//! and snapshots are of this world.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends with what it did not expect"
)]

mod clients;
mod disk;
mod driver;
mod faults;
mod founding;
mod links;
mod log;
mod observer;
#[path = "../registers/mod.rs"]
mod registers;
mod scenarios;
mod seeds;
mod time;
mod world;
