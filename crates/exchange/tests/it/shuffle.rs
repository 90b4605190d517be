//! Partitions between workers over real sockets.

mod faults;
mod flight;
mod governed;
mod large;
mod memory;
mod progress;
mod pyarrow;
mod rows;
mod talk;
mod world;
