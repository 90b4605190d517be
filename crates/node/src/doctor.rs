//! `sheaf doctor`: whether this machine, this configuration and the servers
//! that it names fit together, and what to do where they do not.
//!
//! Facts are gathered apart from what is thought of them: files and machine by
//! `local`, servers by `peer`, all at the same time and each with a deadline. The checks are functions of facts. Nothing is changed: a probe of
//! the disk writes to a file without a name, ports are bound and let go, locks
//! are shared for a moment.

mod advice;
mod certificates;
mod check;
mod command;
mod configuration;
mod data_dir;
mod disk;
mod gather;
mod local;
mod machine;
mod peer;
mod ports;
mod probe;
mod servers;
mod show;
mod valkey;

pub use check::{Check, Report, Verdict};
pub use command::DoctorArgs;
