//! What a namespace of the Flight service implements.

use std::net::SocketAddr;
use std::sync::Weak;

use arrow_schema::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::caller::{Caller, CertificateNames};
use crate::error::Error;
use crate::ipc::encode_schema;
use crate::message::Message;
use crate::router::{Core, SessionValue};
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
    /// The name of the token or login that let the call in, where one was needed.
    pub identity: Option<String>,
    /// What let the call in.
    pub(crate) caller: Caller,
    /// Whom the caller's certificate is for.
    pub(crate) certificate: Option<CertificateNames>,
    /// Who has the session's options; a context that is kept keeps no server.
    pub(crate) core: Weak<Core>,
}

impl CallContext {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An option that the caller has set in its session, as it is now.
    pub fn session_option(&self, name: &str) -> Option<SessionValue> {
        let core = self.core.upgrade()?;
        core.sessions.option(self.session.as_deref()?, name).map(SessionValue::from)
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

/// A Flight descriptor as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawDescriptor {
    /// A path, which may be empty.
    Path(Vec<String>),
    /// A command: any bytes.
    Command(Bytes),
}

/// URI by which an endpoint names the connection that asked.
pub const SAME_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// One stream that a server offers.
#[derive(Clone, Debug)]
pub struct FlightEntry {
    /// Path of its descriptor; empty where that is a command.
    pub path: Vec<String>,
    /// The command of its descriptor, where that is no path.
    pub command: Option<Bytes>,
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

impl FlightEntry {
    /// An entry of which nothing is known but its schema, without endpoints.
    pub fn new(descriptor: RawDescriptor, schema: &Schema) -> Self {
        let (path, command) = match descriptor {
            RawDescriptor::Path(path) => (path, None),
            RawDescriptor::Command(command) => (Vec::new(), Some(command)),
        };
        FlightEntry {
            path,
            command,
            schema: encode_schema(schema).header,
            total_records: -1,
            total_bytes: -1,
            endpoints: Vec::new(),
            ordered: false,
            app_metadata: Bytes::new(),
        }
    }
}

/// One part of a stream.
#[derive(Clone, Debug)]
pub struct EndpointEntry {
    /// The ticket: of a namespace it is UTF-8 and begins with its name, of a
    /// [`Fallback`](crate::Fallback) it is any bytes.
    pub ticket: Bytes,
    /// URIs of servers that answer it; empty means the connection that asked,
    /// which [`SAME_CONNECTION`] says too.
    pub locations: Vec<String>,
    /// When the ticket is not good any more, microseconds since 1970.
    pub expires_at_micros: Option<u64>,
    /// The application's own bytes.
    pub app_metadata: Bytes,
}

impl EndpointEntry {
    /// A part that whoever asked gets over the same connection, at any time.
    pub fn new(ticket: impl Into<Bytes>) -> Self {
        EndpointEntry {
            ticket: ticket.into(),
            locations: Vec::new(),
            expires_at_micros: None,
            app_metadata: Bytes::new(),
        }
    }
}

/// How far the work is that makes a stream, as PollFlightInfo tells it.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is known so far; endpoints that are there can be read.
    pub entry: FlightEntry,
    /// What to ask for next time; `None` where all is done.
    pub next: Option<RawDescriptor>,
    /// How much is done, from 0 to 1, where that is known.
    pub fraction: Option<f64>,
    /// When `next` is not good any more, microseconds since 1970.
    pub expires_at_micros: Option<u64>,
}

impl From<FlightEntry> for Progress {
    /// All is done.
    fn from(entry: FlightEntry) -> Self {
        Progress { entry, next: None, fraction: Some(1.0), expires_at_micros: None }
    }
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

    /// What is offered; `criteria` as the client sent it: where they are none of this
    /// namespace, nothing is, for all namespaces are asked. Those that begin with the
    /// name of a namespace and a slash come to that one alone.
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

    /// How far the work is that makes a stream; by default all of it is done.
    async fn poll(&self, context: &CallContext, descriptor: Descriptor) -> Result<Progress, Error> {
        self.info(context, descriptor).await.map(Progress::from)
    }

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

    /// Whether its actions are also answered as JSON over HTTP/1.1: by default they
    /// are. Those that servers call among themselves need not be.
    fn has_json(&self) -> bool {
        true
    }

    /// Runs one of its actions; each item of the answer is one Result message.
    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error>;
}
