//! One Flight service per port: descriptors, tickets and actions to handlers.

mod actions;
mod builder;
mod inbound;
pub(crate) mod resolve;
mod route;
mod session_options;
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
pub use session_options::{SessionCheck, SessionProblem, SessionValue};

use crate::error::Error;
use crate::fallback::{Fallback, PutResults};
use crate::handler::{ActionHandler, CallContext, FlightEntry, Handler, MessageStream, Progress};
use crate::health::Health;
use crate::limits::Limits;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::security::Right;
use crate::wire::Memory;
use sessions::{COOKIE, Sessions};

/// What a token needs a right to that calls a fallback: all namespaces.
const EVERYWHERE: &str = "*";

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
    /// Serves what no namespace claims.
    fallback: Option<Arc<dyn Fallback>>,
    actions: BTreeMap<&'static str, Action>,
    /// Calls with the header [`PEER_HEADER`](crate::PEER_HEADER) count apart, of those
    /// who may write in this namespace.
    pub(crate) peers: Option<&'static str>,
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

impl Core {
    /// Whether an action is not answered as JSON.
    pub(crate) fn is_without_json(&self, action: &str) -> bool {
        let handler = self.actions.get(action).and_then(|action| action.handler.as_ref());
        handler.is_some_and(|handler| !handler.has_json())
    }
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

    /// A stream of messages to store; answers the `app_metadata` of every PutResult.
    pub(crate) async fn put(
        &self,
        context: &CallContext,
        asked: Asked,
        messages: MessageStream,
    ) -> Result<PutResults, Error> {
        let route = self.by_descriptor(context, asked, Right::Write)?;
        let limit = route.max_message_bytes(self.core.limits.max_message_bytes);
        let messages = self.schema_first(self.inbound(messages, limit)).await?;
        route.put(context, messages).await
    }

    /// Whether a caller may write what a descriptor names: said before all of the
    /// first message is there.
    ///
    /// # Errors
    /// Those of [`FlightRouter::put`] that the descriptor decides.
    pub(crate) fn may_write(&self, context: &CallContext, asked: Asked) -> Result<(), Error> {
        self.by_descriptor(context, asked, Right::Write).map(drop)
    }

    /// The stream of a ticket.
    pub(crate) async fn get(
        &self,
        context: &CallContext,
        ticket: &[u8],
    ) -> Result<MessageStream, Error> {
        Ok(self.outbound(self.by_ticket(context, ticket, Right::Read)?.get(context).await?))
    }

    /// A conversation.
    pub(crate) async fn exchange(
        &self,
        context: &CallContext,
        asked: Asked,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        let route = self.by_descriptor(context, asked, Right::Write)?;
        let limit = route.max_message_bytes(self.core.limits.max_message_bytes);
        let messages = self.inbound(messages, limit);
        Ok(self.outbound(route.exchange(context, messages).await?))
    }

    /// What one descriptor names.
    pub(crate) async fn info(
        &self,
        context: &CallContext,
        asked: Asked,
    ) -> Result<FlightEntry, Error> {
        self.by_descriptor(context, asked, Right::Read)?.info(context).await
    }

    /// How far the work is that one descriptor names.
    pub(crate) async fn poll(
        &self,
        context: &CallContext,
        asked: Asked,
    ) -> Result<Progress, Error> {
        self.by_descriptor(context, asked, Right::Read)?.poll(context).await
    }

    /// The entries of every namespace that the caller may read, one namespace
    /// after the other, and of the fallback; those that cannot list are passed over.
    /// Criteria that begin with the name of a namespace and a slash are for that one
    /// alone.
    pub(crate) fn list(&self, context: CallContext, criteria: Bytes) -> Entries {
        let first = criteria.iter().position(|byte| *byte == b'/').map(|end| &criteria[..end]);
        let all = &self.core.namespaces;
        let meant = all.keys().map(String::as_str).find(|name| Some(name.as_bytes()) == first);
        let may = |name: &str| {
            context.caller.may(name, Right::Read) && meant.is_none_or(|meant| meant == name)
        };
        let namespaces = all.iter().filter(|(name, _)| may(name));
        let handlers: Vec<_> = namespaces.map(|(_, one)| Arc::clone(&one.handler)).collect();
        let fallback = self.core.fallback.clone().filter(|_| may(EVERYWHERE));
        let asked = (context.clone(), criteria.clone());
        let named = stream::iter(handlers).then(move |handler| {
            let (context, criteria) = (context.clone(), criteria.clone());
            async move { passed_over(handler.list(&context, &criteria).await) }
        });
        let others = stream::iter(fallback).then(move |fallback| {
            let (context, criteria) = asked.clone();
            async move { passed_over(fallback.list(&context, &criteria).await) }
        });
        named.chain(others).try_flatten().boxed()
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

type Entries = BoxStream<'static, Result<FlightEntry, Error>>;

/// No entries in place of the error that there is no listing.
fn passed_over(listed: Result<Entries, Error>) -> Result<Entries, Error> {
    match listed {
        Err(error) if error.code() == Code::Unimplemented => Ok(stream::empty().boxed()),
        other => other,
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
