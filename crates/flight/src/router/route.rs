//! Who answers for a name: the handler of a namespace, or the fallback.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use sheaf_retry::Code;

use super::resolve::{self, COMMAND_NAMESPACE};
use super::{Asked, EVERYWHERE, FlightRouter, Namespace, clip};
use crate::error::Error;
use crate::fallback::{Fallback, PutResults};
use crate::handler::{
    CallContext, Descriptor, EndpointEntry, FlightEntry, Handler, MessageStream, Progress,
    RawDescriptor,
};
use crate::security::Right;

/// Who answers for a descriptor.
pub(super) enum ByDescriptor<'a> {
    Namespace(&'a Namespace, Descriptor),
    Fallback(&'a dyn Fallback, RawDescriptor),
}

/// Who answers for a ticket.
pub(super) enum ByTicket<'a> {
    Namespace(&'a dyn Handler, &'a str),
    Fallback(&'a dyn Fallback, Bytes),
}

impl FlightRouter {
    pub(super) fn by_descriptor(
        &self,
        context: &CallContext,
        asked: Asked,
        right: Right,
    ) -> Result<ByDescriptor<'_>, Error> {
        if let Some(fallback) = self.core.fallback.as_deref()
            && let Some(descriptor) = &asked
            && !self.is_claimed(descriptor)
        {
            context.require(EVERYWHERE, right)?;
            return Ok(ByDescriptor::Fallback(fallback, resolve::bounded(descriptor.clone())?));
        }
        let descriptor = resolve::descriptor(asked)?;
        let namespace = self.namespace(context, &descriptor.path[0], right)?;
        Ok(ByDescriptor::Namespace(namespace, descriptor))
    }

    pub(super) fn by_ticket<'a>(
        &'a self,
        context: &CallContext,
        ticket: &'a [u8],
        right: Right,
    ) -> Result<ByTicket<'a>, Error> {
        let named = resolve::ticket(ticket);
        if let Some(fallback) = self.core.fallback.as_deref()
            && !named.as_ref().is_ok_and(|(name, _)| self.core.namespaces.contains_key(*name))
        {
            context.require(EVERYWHERE, right)?;
            let ticket = resolve::bounded_ticket(ticket)?;
            return Ok(ByTicket::Fallback(fallback, Bytes::copy_from_slice(ticket)));
        }
        let (namespace, text) = named?;
        let namespace = self.namespace(context, namespace, right)?;
        Ok(ByTicket::Namespace(namespace.handler.as_ref(), text))
    }

    /// Whether a namespace answers for a descriptor where there is a fallback too.
    fn is_claimed(&self, descriptor: &RawDescriptor) -> bool {
        let name = match descriptor {
            RawDescriptor::Path(path) => path.first().map(String::as_str),
            RawDescriptor::Command(command) => {
                resolve::could_be_id(command).then_some(COMMAND_NAMESPACE)
            }
        };
        name.is_some_and(|name| self.core.namespaces.contains_key(name))
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
}

impl ByDescriptor<'_> {
    /// Bytes of one message that it takes.
    pub(super) fn max_message_bytes(&self, server: usize) -> usize {
        match self {
            ByDescriptor::Namespace(namespace, _) => namespace.max_message_bytes,
            ByDescriptor::Fallback(..) => server,
        }
    }

    pub(super) async fn put(
        self,
        context: &CallContext,
        messages: MessageStream,
    ) -> Result<PutResults, Error> {
        match self {
            ByDescriptor::Namespace(namespace, descriptor) => {
                let result = namespace.handler.put(context, descriptor, messages).await?;
                Ok(stream::iter([Ok(result)]).boxed())
            }
            ByDescriptor::Fallback(fallback, descriptor) => {
                fallback.put(context, descriptor, messages).await
            }
        }
    }

    pub(super) async fn exchange(
        self,
        context: &CallContext,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        match self {
            ByDescriptor::Namespace(namespace, descriptor) => {
                namespace.handler.exchange(context, descriptor, messages).await
            }
            ByDescriptor::Fallback(fallback, descriptor) => {
                fallback.exchange(context, descriptor, messages).await
            }
        }
    }

    pub(super) async fn info(self, context: &CallContext) -> Result<FlightEntry, Error> {
        match self {
            ByDescriptor::Namespace(namespace, descriptor) => {
                namespace.handler.info(context, descriptor).await
            }
            ByDescriptor::Fallback(fallback, descriptor) => {
                fallback.info(context, descriptor).await
            }
        }
    }

    pub(super) async fn poll(self, context: &CallContext) -> Result<Progress, Error> {
        match self {
            ByDescriptor::Namespace(namespace, descriptor) => {
                namespace.handler.poll(context, descriptor).await
            }
            ByDescriptor::Fallback(fallback, descriptor) => {
                fallback.poll(context, descriptor).await
            }
        }
    }
}

impl ByTicket<'_> {
    pub(super) async fn get(self, context: &CallContext) -> Result<MessageStream, Error> {
        match self {
            ByTicket::Namespace(handler, ticket) => handler.get(context, ticket).await,
            ByTicket::Fallback(fallback, ticket) => fallback.get(context, ticket).await,
        }
    }

    pub(super) async fn renew(self, context: &CallContext) -> Result<EndpointEntry, Error> {
        match self {
            ByTicket::Namespace(handler, ticket) => handler.renew(context, ticket).await,
            ByTicket::Fallback(fallback, ticket) => fallback.renew(context, ticket).await,
        }
    }

    pub(super) async fn cancel(self, context: &CallContext) -> Result<bool, Error> {
        match self {
            ByTicket::Namespace(handler, ticket) => handler.cancel(context, ticket).await,
            ByTicket::Fallback(fallback, ticket) => fallback.cancel(context, ticket).await,
        }
    }
}
