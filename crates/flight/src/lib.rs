//! Flight plumbing for every server and client.

mod client;
mod error;
mod handler;
mod health;
pub mod ipc;
mod limits;
mod message;
mod metrics;
mod plain;
mod router;
mod server;
mod status;

pub use client::{CallOptions, ChannelPool, ClientConfig, FlightConnection, Target};
pub use error::{Error, invalid};
pub use handler::{
    ActionHandler, CallContext, Descriptor, EndpointEntry, FlightEntry, Handler, MessageStream,
};
pub use health::Health;
pub use limits::{Limits, MAX_MESSAGE_BYTES};
pub use message::Message;
pub use router::{FlightRouter, RouterBuilder};
pub use server::{CutCall, Drained, Exposure, Listener, Server, ServerHandle};
pub use status::{CODE_TRAILER, RETRY_AFTER_TRAILER, grpc_code};
