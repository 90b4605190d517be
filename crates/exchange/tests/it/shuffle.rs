//! Partitions between workers over real sockets.

mod crash;
mod credit;
mod drain;
mod faults;
mod flight;
mod governed;
mod large;
mod memory;
mod placement;
mod processes;
mod progress;
mod pyarrow;
mod readers;
mod rows;
mod spill;
mod talk;
mod world;
