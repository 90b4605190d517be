//! A replicated state machine over Arrow Flight, and the coordinator as one.

mod blocking;
pub mod log;
pub mod machine;
pub mod replica;
mod stored;
pub mod types;
