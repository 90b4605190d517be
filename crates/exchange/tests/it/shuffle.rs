//! Partitions between workers over real sockets.

mod faults;
mod flight;
mod governed;
mod memory;
mod pyarrow;
mod rows;
mod talk;
mod world;
