//! A replicated state machine over Arrow Flight, and the coordinator as one.

pub mod coordinator;
pub mod machine;
pub mod replica;
pub mod types;
