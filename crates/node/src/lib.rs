//! Assembly of a Sheaf process: its configuration and its parts.

pub mod args;
pub mod client;
pub mod config;
pub mod serve;
