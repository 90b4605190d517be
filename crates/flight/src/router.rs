//! One Flight service per port: descriptors, tickets and actions to handlers.

mod actions;
mod builder;
mod inbound;
pub(crate) mod resolve;
pub(crate) mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_retry::{Code, Retryable as _, SharedClock};

pub(crate) use actions::Reply;
pub use builder::RouterBuilder;
pub(crate) use builder::is_namespace;
pub(crate) use resolve::Asked;

use crate::error::Error;
use crate::handler::{ActionHandler, CallContext, Descriptor, FlightEntry, Handler, MessageStream};
use crate::health::Health;
use crate::limits::Limits;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::security::Right;
use crate::wire::Memory;
use sessions::{COOKIE, Sessions};

/// Sends each call of a Flight port to the handler of its namespace.
///
/// Knows nothing of gRPC: whatever speaks Flight on the wire hands it
/// descriptors, tickets and [`Message`]s. Cheap to clone.
#[derive(Clone)]
pub struct FlightRouter {
    pub(crate) core: Arc<Core>,
}

/// What all clones of a router share.
pub(crate) struct Core {
    namespaces: BTreeMap<String, Namespace>,
    actions: BTreeMap<&'static str, Action>,
    pub(crate) limits: Limits,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) sessions: Sessions,
    /// Where the bodies of received messages go.
    pub(crate) memory: Memory,
}

struct Namespace {
    handler: Arc<dyn Handler>,
    /// Bytes of one message that it takes.
    max_message_bytes: usize,
}

struct Action {
    description: &'static str,
    /// `None` is a standard one.
    handler: Option<Arc<dyn ActionHandler>>,
}

impl std::fmt::Debug for FlightRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightRouter")
            .field("namespaces", &self.core.namespaces.keys())
            .field("actions", &self.core.actions.keys())
            .finish_non_exhaustive()
    }
}

impl FlightRouter {
    /// Begins a router without namespaces.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// What the server takes at most.
    pub fn limits(&self) -> &Limits {
        &self.core.limits
    }

    /// The health that its server shows.
    pub fn health(&self) -> Health {
        self.core.health.clone()
    }

    /// A stream of messages to store; answers the `app_metadata` of the PutResult.
    pub(crate) async fn put(
        &self,
        context: &CallContext,
        asked: Asked,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let (namespace, descriptor) = self.by_descriptor(context, asked, Right::Write)?;
        let messages = self.inbound(messages, namespace.max_message_bytes);
        let messages = self.schema_first(messages).await?;
        namespace.handler.put(context, descriptor, messages).await
    }

    /// The stream of a ticket.
    pub(crate) async fn get(
        &self,
        context: &CallContext,
        ticket: &[u8],
    ) -> Result<MessageStream, Error> {
        let (handler, ticket) = self.by_ticket(context, ticket, Right::Read)?;
        Ok(self.outbound(handler.get(context, ticket).await?))
    }

    /// A conversation.
    pub(crate) async fn exchange(
        &self,
        context: &CallContext,
        asked: Asked,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        let (namespace, descriptor) = self.by_descriptor(context, asked, Right::Write)?;
        let messages = self.inbound(messages, namespace.max_message_bytes);
        let answers = namespace.handler.exchange(context, descriptor, messages).await?;
        Ok(self.outbound(answers))
    }

    /// What one descriptor names.
    pub(crate) async fn info(
        &self,
        context: &CallContext,
        asked: Asked,
    ) -> Result<FlightEntry, Error> {
        let (namespace, descriptor) = self.by_descriptor(context, asked, Right::Read)?;
        namespace.handler.info(context, descriptor).await
    }

    /// The entries of every namespace that the caller may read, one namespace
    /// after the other; those that cannot list are passed over.
    pub(crate) fn list(
        &self,
        context: CallContext,
        criteria: Bytes,
    ) -> BoxStream<'static, Result<FlightEntry, Error>> {
        let namespaces = self.core.namespaces.iter();
        let readable = namespaces.filter(|(name, _)| context.caller.may(name, Right::Read));
        let handlers: Vec<_> = readable.map(|(_, one)| Arc::clone(&one.handler)).collect();
        stream::iter(handlers)
            .then(move |handler| {
                let (context, criteria) = (context.clone(), criteria.clone());
                async move {
                    match handler.list(&context, &criteria).await {
                        Err(error) if error.code() == Code::Unimplemented => {
                            Ok(stream::empty().boxed())
                        }
                        other => other,
                    }
                }
            })
            .try_flatten()
            .boxed()
    }

    /// Runs an action.
    pub(crate) async fn action(
        &self,
        context: &CallContext,
        name: &str,
        body: Bytes,
    ) -> Result<Reply, Error> {
        let limit = self.core.limits.max_action_bytes;
        if body.len() > limit {
            self.core.metrics.rejected("action");
            return Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "the body of action {name:?} has {} bytes, max_action_bytes is {limit}",
                    body.len()
                ),
            ));
        }
        match self.core.actions.get_key_value(name) {
            Some((known, Action { handler: Some(handler), .. })) => {
                context.caller.require(handler.needs(known))?;
                Ok(handler.call(context, known, body).await?.into())
            }
            Some((known, _)) => self.standard_action(context, known, body).await,
            None => Err(Error::new(
                Code::Unimplemented,
                format!("no action {:?} here; there are: {}", clip(name), self.action_names()),
            )),
        }
    }

    /// Names and descriptions of all actions, in order of name.
    pub(crate) fn actions(&self) -> Vec<(&'static str, &'static str)> {
        self.core.actions.iter().map(|(name, action)| (*name, action.description)).collect()
    }

    /// The session that a cookie among the headers names, while it lives.
    pub(crate) fn session_of(&self, headers: &[(String, String)]) -> Option<String> {
        headers
            .iter()
            .filter(|(name, _)| name == "cookie")
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == COOKIE)
            .and_then(|(_, id)| self.core.sessions.touch(id).then(|| id.to_owned()))
    }

    fn action_names(&self) -> String {
        self.core.actions.keys().copied().collect::<Vec<_>>().join(", ")
    }

    fn by_descriptor(
        &self,
        context: &CallContext,
        asked: Asked,
        right: Right,
    ) -> Result<(&Namespace, Descriptor), Error> {
        let descriptor = resolve::descriptor(asked)?;
        Ok((self.namespace(context, &descriptor.path[0], right)?, descriptor))
    }

    fn by_ticket<'a>(
        &self,
        context: &CallContext,
        ticket: &'a [u8],
        right: Right,
    ) -> Result<(&dyn Handler, &'a str), Error> {
        let (namespace, text) = resolve::ticket(ticket)?;
        Ok((self.namespace(context, namespace, right)?.handler.as_ref(), text))
    }

    /// The namespace of this name, if the caller may do this there. Who may not
    /// does not learn whether it exists.
    fn namespace(
        &self,
        context: &CallContext,
        name: &str,
        right: Right,
    ) -> Result<&Namespace, Error> {
        let Some(found) = self.core.namespaces.get(name) else {
            context.caller.check(name, right)?;
            return Err(self.no_namespace(name));
        };
        context.require(name, right)?;
        Ok(found)
    }

    fn no_namespace(&self, name: &str) -> Error {
        let there: Vec<&str> = self.core.namespaces.keys().map(String::as_str).collect();
        let there = match there.as_slice() {
            [] => "this server serves actions only".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Error::new(Code::NotFound, format!("no namespace {:?} here; {there}", clip(name)))
    }

    /// Counts what is sent, and refuses what no client would take.
    fn outbound(&self, messages: MessageStream) -> MessageStream {
        let core = Arc::clone(&self.core);
        messages
            .map(move |message| {
                let message = message?;
                let limit = core.limits.max_message_bytes;
                check_size(&core.metrics, &message, limit)?;
                core.metrics.sent(message.len());
                Ok(message)
            })
            .boxed()
    }
}

/// Refuses a message over `limit` bytes, and counts it.
fn check_size(metrics: &Metrics, message: &Message, limit: usize) -> Result<(), Error> {
    message.check_size(limit).inspect_err(|_| metrics.rejected("message"))
}

/// Names from outside appear in messages, but not at any length.
fn clip(name: &str) -> String {
    name.chars().take(100).collect()
}
