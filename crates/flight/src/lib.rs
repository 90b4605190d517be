//! Arrow Flight for every server and client: one service per port, handlers by
//! namespace, messages that are never decoded on the way.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use futures::{StreamExt, TryStreamExt, stream};
//! use sheaf_flight::{
//!     CallContext, CallOptions, ChannelPool, ClientConfig, Descriptor, Error, Exposure,
//!     FlightEntry, FlightRouter, Handler, Listener, MessageStream, Server, invalid,
//! };
//! use sheaf_retry::SystemClock;
//!
//! /// Throws away what is put, and tells how much it was.
//! struct Sink;
//!
//! #[async_trait]
//! impl Handler for Sink {
//!     async fn put(
//!         &self,
//!         _: &CallContext,
//!         _: Descriptor,
//!         messages: MessageStream,
//!     ) -> Result<Bytes, Error> {
//!         let add = |sum, message: sheaf_flight::Message| async move { Ok(sum + message.len()) };
//!         Ok(messages.try_fold(0, add).await?.to_string().into())
//!     }
//!
//!     async fn get(&self, _: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
//!         Err(invalid(format!("{ticket}: nothing is kept")))
//!     }
//!
//!     async fn list(
//!         &self,
//!         _: &CallContext,
//!         _: &[u8],
//!     ) -> Result<stream::BoxStream<'static, Result<FlightEntry, Error>>, Error> {
//!         Ok(stream::empty().boxed())
//!     }
//!
//!     async fn info(&self, _: &CallContext, _: Descriptor) -> Result<FlightEntry, Error> {
//!         Err(invalid("nothing is kept"))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let router = FlightRouter::builder().handler("sink", Arc::new(Sink)).build()?;
//! let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
//! let server = Server::new(router).serve(listener).await?;
//!
//! let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
//! let connection = pool.connection(&server.uri())?;
//! let schema = sheaf_flight::ipc::encode_schema(&arrow_schema::Schema::empty());
//! let size = schema.len().to_string();
//! let messages = stream::iter([Ok(schema)]).boxed();
//! let answer = connection.put(&["sink"], &CallOptions::default(), messages).await?;
//! assert_eq!(answer, size);
//! server.drain(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! | question | answer |
//! |---|---|
//! | What travels? | [`Message`]: header, metadata and body of one IPC message; [`ipc`] reads and writes them |
//! | Who answers? | [`Handler`] for a namespace, [`ActionHandler`] for actions; [`FlightRouter`] finds them |
//! | Where? | [`Listener`], [`Server`], [`ServerHandle`]; [`Health`] shows whether it takes work |
//! | Without the wire? | [`SegmentServer`] hands files to programs of this machine, which map them |
//! | How much? | [`Limits`] |
//! | Who asks? | [`ChannelPool`], [`FlightConnection`] |
//! | Who may? | [`Security`] and [`Logins`] on the serving side, [`ClientSecurity`] on the calling side; what a token may: [`Right`], [`Need`] |
//! | What else? | [`Fallback`] serves what no namespace claims, [`Middleware`] looks at every call |
//! | What went wrong? | [`Error`]; [`grpc_code`] has the table of codes |
//!
//! # What holds
//!
//! - A handler gets the schema first, then whole messages in order, then the
//!   end or one error: a stream that was broken off never looks complete.
//! - Every limit has a metric, a code and a message that names it.
//! - A panic in a handler ends its call with `internal` and nothing else.
//! - Every call to a namespace, an action or another service is held against the
//!   rights of its token; what does not say which it needs, needs all of them.
//! - Nothing listens beyond loopback unless it is told to, and no token goes
//!   there readable.

mod budget;
mod caller;
mod client;
mod error;
mod fallback;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod health;
pub mod ipc;
mod limits;
mod message;
mod metrics;
mod middleware;
mod plain;
mod router;
mod security;
mod segment;
mod server;
mod status;
mod wire;

pub use budget::{Budget, Full, MemoryBudget, Piece, Pieces, Told};
pub use caller::{certificate_names, require};
pub use client::{
    COMPRESSION, CallOptions, Channel, ChannelPool, ClientConfig, ClientSecurity, FORWARDED,
    FlightConnection, Target, TokenSource,
};
pub use error::{Error, invalid};
pub use fallback::{Fallback, PutResults};
pub use handler::{
    ActionHandler, CallContext, Descriptor, EndpointEntry, FlightEntry, Handler, MessageStream,
    Progress, RawDescriptor, SAME_CONNECTION,
};
pub use health::Health;
pub use limits::{Limits, MAX_MESSAGE_BYTES};
pub use message::Message;
pub use middleware::{AnswerHeaders, Middleware};
pub use router::{FlightRouter, RouterBuilder, SessionCheck, SessionProblem, SessionValue};
pub use security::{
    CertificateFacts, Grant, Logins, Need, Passwords, Protocol, RELOAD_INTERVAL, Right, Secret,
    SecureStream, Security, SecurityFiles, TlsFiles, TokenFacts, read_certificate,
    read_secret_file,
};
pub use segment::{Received, Segment, SegmentLocation, SegmentServer, SegmentSource};
pub use server::{
    Audit, CutCall, Drained, Exposure, Listener, LocalListener, PEER_HEADER, Server, ServerHandle,
    WebActions,
};
pub use status::{CODE_TRAILER, RETRY_AFTER_TRAILER, grpc_code, http_status};
