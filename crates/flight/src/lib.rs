//! Flight plumbing for every server and client.

mod error;
mod handler;
mod message;

pub use error::{Error, invalid};
pub use handler::{
    ActionHandler, CallContext, Descriptor, EndpointEntry, FlightEntry, Handler, MessageStream,
};
pub use message::Message;
