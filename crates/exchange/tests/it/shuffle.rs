//! Partitions between workers over real sockets.

mod crash;
mod faults;
mod flight;
mod governed;
mod large;
mod memory;
mod processes;
mod progress;
mod pyarrow;
mod readers;
mod rows;
mod spill;
mod talk;
mod world;
