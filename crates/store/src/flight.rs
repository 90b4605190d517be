//! The store as a namespace of a Flight port.

mod actions;
mod handler;
mod ticket;

pub use actions::StoreActions;
pub use handler::{NAMESPACE, StoreHandler};
pub use ticket::Ticket;
