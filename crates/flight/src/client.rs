//! The calling side: channels by target, and Flight calls in terms of [`Message`](crate::Message)s.

mod channel;
mod connection;
mod connector;
mod options;
mod pool;
mod security;
mod target;
mod transfer;

pub use channel::Channel;
pub use connection::FlightConnection;
pub use options::{COMPRESSION, CallOptions, ClientConfig, FORWARDED};
pub use pool::ChannelPool;
pub use security::{ClientSecurity, TokenSource};
pub use target::Target;
pub(crate) use transfer::Transfer;
