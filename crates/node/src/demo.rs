//! `sheaf demo`: the whole way of the data on this machine, with a kill half-way.

mod cluster;
mod command;
mod data;
mod error;
mod process;
mod run;
mod tally;

pub use command::DemoArgs;
pub use error::Error;
pub use run::{Options, Report, Step, default_folder, run};
