//! The receiving side: the namespace and the actions of a Flight port.

mod bulk;
mod calls;
mod streams;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::{
    CallContext, CallOptions, Descriptor, FlightEntry, Handler, MessageStream, PEER_HEADER,
    RouterBuilder, invalid,
};
use sheaf_retry::Code;

use crate::context::Context;
use crate::engine::Engine;
use crate::frame::{Frame, Hello, Kind, Order, Reason};
use crate::identity;
use crate::inbox::Inbox;
use crate::packet::Packet;
use crate::{Error, NodeId};

/// Name of the namespace.
pub(crate) const NAMESPACE: &str = "raft";
/// The action that says hello.
pub(crate) const HELLO: &str = "raft.hello.v1";
/// The action of [`send_message`](crate::RaftTransport::send_message).
pub(crate) const MESSAGE: &str = "message";

/// The action of a kind.
pub(crate) fn action(kind: &str) -> String {
    format!("{NAMESPACE}.{kind}.v1")
}

/// Of a call to another node: it does not count among those of clients.
pub(crate) fn of_peer() -> CallOptions {
    CallOptions::default().header(PEER_HEADER, "raft")
}

/// The kind of an action.
fn kind_of(action: &str) -> Option<&str> {
    action.strip_prefix("raft.")?.strip_suffix(".v1").filter(|kind| !kind.is_empty())
}

/// Answers the peers of a node.
pub(crate) struct Service {
    context: Arc<Context>,
    inbox: Arc<Inbox>,
    engine: Arc<dyn Engine>,
}

/// Has a port answer the peers of a node.
pub(crate) fn mount(
    context: &Arc<Context>,
    inbox: &Arc<Inbox>,
    engine: Arc<dyn Engine>,
    router: RouterBuilder,
) -> Result<RouterBuilder, Error> {
    let wrong = engine
        .actions()
        .into_iter()
        .filter(|(name, _)| kind_of(name).is_none_or(|kind| kind == MESSAGE) || *name == HELLO);
    let problems: Vec<String> = wrong
        .map(|(name, _)| {
            format!("an engine cannot have the action {name:?}: raft.KIND.v1 of its own")
        })
        .collect();
    if !problems.is_empty() {
        return Err(Error::Config { problems });
    }
    let (context, inbox) = (Arc::clone(context), Arc::clone(inbox));
    let limit = context.config.max_flight_bytes();
    let service = Arc::new(Service { context, inbox, engine });
    let handler: Arc<dyn Handler> = service.clone();
    Ok(router.handler_with_limit(NAMESPACE, handler, limit).actions(service).peers(NAMESPACE))
}

impl Service {
    /// Looks at the first frame of a stream or transfer: who it is from, and whether
    /// that is who it says.
    fn greet(
        &self,
        caller: &CallContext,
        frame: &Frame,
        hello: Bytes,
        kind: Kind,
    ) -> Result<(NodeId, u64, Order), Error> {
        Hello::read(hello)?.check(&self.context.hello)?;
        let (from, session) = (frame.header.ends.from, frame.header.session);
        self.admit(caller, from)?;
        let mut order = Order::new(self.context.ends_to(from).turned(), session, kind);
        order.accept(frame)?;
        Ok((from, session, order))
    }

    /// Whether the caller may speak as this node.
    fn admit(&self, caller: &CallContext, from: NodeId) -> Result<(), Error> {
        let config = &self.context.config;
        if from == config.node_id {
            let text = format!("it is from node {from}, which is this one");
            return Err(Error::frame(Reason::Node, text));
        }
        let result = identity::check(config, caller.certificate_names(), from);
        result.inspect_err(|error| caller.refused(NAMESPACE, &refusal(error)))
    }

    /// Counts a refusal and logs it, by the address that it came from.
    fn refuse(&self, caller: &CallContext, error: Error) -> sheaf_flight::Error {
        let error = self.context.count(error);
        let peer = caller.peer.map(|peer| peer.to_string()).unwrap_or_default();
        tracing::warn!(target: "transport", %error, %peer, "refused");
        error.into()
    }
}

/// The same error once more, for the audit log.
fn refusal(error: &Error) -> sheaf_flight::Error {
    use sheaf_retry::Retryable as _;
    sheaf_flight::Error::new(error.code(), error.to_string())
}

/// The kind that a descriptor names.
fn kind(descriptor: Descriptor) -> Result<String, sheaf_flight::Error> {
    match <[String; 2]>::try_from(descriptor.path) {
        Ok([_, kind]) => Ok(kind),
        Err(path) => Err(invalid(format!("{path:?}: a stream of raft is named [\"raft\", KIND]"))),
    }
}

/// The answer to an engine's error is its own.
fn of_engine(error: Error) -> sheaf_flight::Error {
    error.into()
}

#[async_trait]
impl Handler for Service {
    async fn put(
        &self,
        caller: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<Bytes, sheaf_flight::Error> {
        self.take_bulk(caller, &kind(descriptor)?, messages).await
    }

    async fn get(
        &self,
        _: &CallContext,
        ticket: &str,
    ) -> Result<MessageStream, sheaf_flight::Error> {
        let text = format!("ticket {ticket:?}: the namespace raft keeps nothing to get");
        Err(sheaf_flight::Error::new(Code::NotFound, text))
    }

    async fn list(
        &self,
        _: &CallContext,
        _: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, sheaf_flight::Error>>, sheaf_flight::Error>
    {
        Ok(stream::empty().boxed())
    }

    async fn info(
        &self,
        _: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, sheaf_flight::Error> {
        let text = format!("{:?}: the namespace raft keeps nothing", descriptor.path);
        Err(sheaf_flight::Error::new(Code::NotFound, text))
    }

    async fn exchange(
        &self,
        caller: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, sheaf_flight::Error> {
        self.take_stream(caller, &kind(descriptor)?, messages).await
    }
}

/// A packet of a call or a hello, which there is one of.
fn only(packets: Vec<Packet>) -> Result<Packet, Error> {
    let count = packets.len();
    match <[Packet; 1]>::try_from(packets) {
        Ok([packet]) => Ok(packet),
        Err(_) => Err(Error::frame(Reason::Malformed, format!("{count} packets where one comes"))),
    }
}
