//! A replicated state machine over Arrow Flight, and the coordinator as one.

pub mod admin;
pub mod config;
pub mod machine;
pub mod network;
pub mod node;
pub mod replica;
mod stored;
pub mod types;
