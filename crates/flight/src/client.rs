//! The calling side: channels by target, and Flight calls in terms of [`Message`](crate::Message)s.

mod connection;
mod options;
mod pool;
mod send;
mod target;

pub use connection::FlightConnection;
pub use options::{CallOptions, ClientConfig};
pub use pool::ChannelPool;
pub use target::Target;
