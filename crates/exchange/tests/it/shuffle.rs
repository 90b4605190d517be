//! Partitions between workers over real sockets.

mod crash;
mod faults;
mod flight;
mod governed;
mod memory;
mod pyarrow;
mod rows;
mod spill;
mod world;
