//! Drivers with real processes.

mod process;
mod runner;
