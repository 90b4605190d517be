//! The store as a namespace of a Flight port.

mod actions;
mod handler;
mod shared;
mod ticket;

pub use actions::StoreActions;
pub use handler::{NAMESPACE, StoreHandler};
pub use shared::SharedMemory;
pub use ticket::Ticket;
