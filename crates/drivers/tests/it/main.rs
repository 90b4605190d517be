//! Drivers with real processes.

mod process;
