//! The node in a world of its own: one thread, a clock that jumps, a network and disks that do
//! what a seed says. The same seed is the same run, in any process.
//!
//! The node is the real one, with its engine, its wire messages and its checks, its state machine,
//! and its log and snapshots in files. Of this world are the links, the time that a disk takes,
//! and what a crash makes of bytes that were not synced.

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
mod observer;
#[path = "../registers/mod.rs"]
mod registers;
mod scenarios;
mod seeds;
mod time;
mod world;
