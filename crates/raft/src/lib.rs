//! A replicated state machine over Arrow Flight, and the coordinator as one.

pub mod admin;
pub mod apply;
mod blocking;
pub mod config;
pub mod coordinator;
pub mod log;
pub mod machine;
pub mod network;
pub mod node;
pub mod replica;
pub mod snapshot;
mod stored;
#[cfg(test)]
mod testing;
pub mod types;
