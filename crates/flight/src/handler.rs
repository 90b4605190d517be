//! What a namespace of the Flight service implements.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::caller::Caller;
use crate::error::Error;
use crate::message::Message;
use crate::security::Need;

/// A stream of messages: the schema first, then dictionaries and record batches in order.
pub type MessageStream = BoxStream<'static, Result<Message, Error>>;

/// Who calls, and with which headers.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// The address of the peer, where it is a network peer.
    pub peer: Option<SocketAddr>,
    /// ASCII headers of the call; names are lower case.
    pub headers: Vec<(String, String)>,
    /// The Arrow session of the caller, where it has one.
    pub session: Option<String>,
    /// What let the call in.
    pub(crate) caller: Caller,
}

impl CallContext {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A Flight descriptor, resolved to a path: `cmd = ID` reads as `["batches", ID]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The namespace and what it names; never empty.
    pub path: Vec<String>,
    /// Whether the client sent `cmd` rather than a path.
    pub is_command: bool,
}

/// One stream that a namespace offers.
#[derive(Clone, Debug)]
pub struct FlightEntry {
    /// Path of its descriptor.
    pub path: Vec<String>,
    /// Flatbuffer of its schema message, as in [`Message::header`].
    pub schema: Bytes,
    /// Rows in all, -1 where unknown.
    pub total_records: i64,
    /// Bytes of all messages, -1 where unknown.
    pub total_bytes: i64,
    /// Tickets, each with the addresses that serve it; none means this connection.
    pub endpoints: Vec<EndpointEntry>,
    /// Whether the endpoints are to be read in order.
    pub ordered: bool,
    /// The application's own bytes.
    pub app_metadata: Bytes,
}

/// One part of a stream.
#[derive(Clone, Debug)]
pub struct EndpointEntry {
    /// UTF-8 ticket, beginning with the namespace.
    pub ticket: String,
    /// URIs of servers that answer it; empty means the connection that asked.
    pub locations: Vec<String>,
    /// When the ticket is not good any more, microseconds since 1970.
    pub expires_at_micros: Option<u64>,
}

/// Serves one namespace (`batches`, `topics`, `shuffle`) of a Flight port.
///
/// 1. `put` reads its stream to the end, or returns an error and leaves
///    nothing behind; what it returns is sent as one PutResult.
/// 2. `get` yields the schema first.
/// 3. Every call may be dropped at any await.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Takes a stream; returns the `app_metadata` of the PutResult.
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<Bytes, Error>;

    /// Opens a stream by ticket.
    async fn get(&self, context: &CallContext, ticket: &str) -> Result<MessageStream, Error>;

    /// What is offered; `criteria` as the client sent it.
    async fn list(
        &self,
        context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error>;

    /// One entry of what is offered.
    async fn info(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, Error>;

    /// A conversation; by default there is none.
    async fn exchange(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
        _messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        Err(Error::new(
            sheaf_retry::Code::Unimplemented,
            format!("namespace {:?} has no DoExchange", descriptor.path[0]),
        ))
    }

    /// Makes a ticket good for longer (the action `RenewFlightEndpoint`); by
    /// default tickets do not expire and cannot be renewed.
    async fn renew(&self, _context: &CallContext, ticket: &str) -> Result<EndpointEntry, Error> {
        Err(Error::new(
            sheaf_retry::Code::Unimplemented,
            format!("ticket {ticket:?} cannot be renewed: its namespace has no expiring tickets"),
        ))
    }

    /// Gives up what a ticket stands for (the action `CancelFlightInfo`);
    /// answers whether there was anything to give up, by default not.
    async fn cancel(&self, _context: &CallContext, _ticket: &str) -> Result<bool, Error> {
        Ok(false)
    }
}

/// Serves some actions of a Flight port.
#[async_trait]
pub trait ActionHandler: Send + Sync + 'static {
    /// Names and descriptions, for ListActions.
    fn actions(&self) -> Vec<(&'static str, &'static str)>;

    /// What one of its actions needs of the caller's token; by default
    /// everything, so that an action of which nobody thought is open to none
    /// whose rights are limited.
    fn needs(&self, _action: &str) -> Need {
        Need::Everything
    }

    /// Runs one of its actions; each item of the answer is one Result message.
    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error>;
}
