//! Batches by name, wherever their payload is.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sheaf_coordinator::{Coordinator, CoordinatorExt as _};
use sheaf_flight::{
    COMPRESSION, CallContext, CallOptions, ChannelPool, Descriptor, EndpointEntry, Error,
    FORWARDED, FlightConnection, FlightEntry, Handler, MessageStream,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{NAMESPACE, StoreHandler, Ticket};

/// The namespace `batches` of one server among several.
///
/// What the store of this process does not have is looked up in the
/// coordinator, and read from the server that has it: any Flight server
/// answers for every batch that is registered. A process without a store
/// tells in `GetFlightInfo` where a payload is, and carries none itself.
pub(super) struct Elsewhere {
    local: Option<StoreHandler>,
    coordinator: Arc<dyn Coordinator>,
    pool: ChannelPool,
    /// Addresses of this process.
    own: Vec<String>,
    /// Where payloads are that were registered without an address.
    home: Option<String>,
    /// Nothing is beside the coordinator.
    is_shared: bool,
}

impl Elsewhere {
    /// What `local` does not have is looked for where `coordinator` says.
    pub(super) fn new(
        local: Option<StoreHandler>,
        coordinator: Arc<dyn Coordinator>,
        pool: ChannelPool,
        own: Vec<String>,
    ) -> Self {
        Elsewhere { local, coordinator, pool, own, home: None, is_shared: false }
    }

    /// The store beside the coordinator is at this address.
    pub(super) fn with_home(self, home: Option<String>) -> Self {
        Elsewhere { home, ..self }
    }

    /// No store is beside the coordinator: a payload that was registered without an
    /// address is at the server that registered it, which only that one knows.
    pub(super) fn shared(self, is_shared: bool) -> Self {
        Elsewhere { is_shared, ..self }
    }

    /// The servers that are said to have a payload, this one left out.
    async fn servers(&self, id: &BatchId) -> Result<Vec<FlightConnection>, Error> {
        let batch = self.coordinator.get(id).await.map_err(Error::from_error)?;
        let Some(batch) = batch else { return Err(missing(id, "and is not registered")) };
        let locations = match (batch.spec.locations, &self.home) {
            (locations, Some(home)) if locations.is_empty() => vec![home.clone()],
            (locations, _) => locations,
        };
        let others = locations.iter().filter(|location| !self.own.contains(location));
        let (mut servers, mut refused) = (Vec::new(), None);
        for location in others {
            match self.pool.connection(location) {
                Ok(server) => servers.push(server),
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused.filter(|_| servers.is_empty()) {
            let text = format!("payload {id} cannot be reached: {}", error.message());
            return Err(Error::new(Code::Unavailable, text));
        }
        if locations.is_empty() && self.is_shared {
            // Not lost: who has it may be another one.
            let text = format!(
                "payload {id} is not on this server and is registered without an address, as \
                 batches are whose coordinator was beside their store; only that server can read it"
            );
            return Err(Error::new(Code::Unavailable, text));
        }
        if servers.is_empty() {
            let why = match locations.is_empty() {
                true => "and is registered without an address",
                false => "where it is registered to be",
            };
            return Err(missing(id, why));
        }
        Ok(servers)
    }

    /// The answer of the first server that gives one. Only where every server
    /// says that it has no such payload it is not found.
    async fn first<T>(
        &self,
        id: &BatchId,
        ask: impl Fn(FlightConnection) -> BoxFuture<'static, Result<T, Error>> + Send,
    ) -> Result<(T, String), Error> {
        let mut failure = None;
        for server in self.servers(id).await? {
            let address = server.target().to_string();
            match ask(server).await {
                Ok(answer) => return Ok((answer, address)),
                Err(error) if error.code() == Code::NotFound => {
                    failure.get_or_insert(error);
                }
                Err(error) => {
                    let text = format!("payload {id} is at {address}: {}", error.message());
                    failure = Some(Error::new(error.code(), text));
                }
            }
        }
        Err(failure.unwrap_or_else(|| missing(id, "nor elsewhere")))
    }
}

fn missing(id: &BatchId, why: &str) -> Error {
    Error::new(Code::NotFound, format!("payload {id} is not on this server, {why}"))
}

/// The end of a call that was passed on.
fn here_not(what: &str) -> Error {
    Error::new(Code::NotFound, format!("{what} is not on this server"))
}

/// Headers that a server passes on.
fn onward(context: &CallContext) -> CallOptions {
    let passed = ["sheaf-checksums", COMPRESSION];
    let passed = passed.into_iter().filter_map(|name| Some((name, context.header(name)?)));
    passed.fold(CallOptions::default().header(FORWARDED, "true"), |options, (name, wanted)| {
        options.header(name, wanted)
    })
}

/// Whether to look no further than this process.
fn is_last(context: &CallContext) -> bool {
    context.header(FORWARDED) == Some("true")
}

fn no_store(id: &str) -> Error {
    Error::new(
        Code::FailedPrecondition,
        format!(
            "this server is a coordinator and has no payloads ({id}): GetFlightInfo tells which \
             Flight server has a batch, puts go to a Flight server"
        ),
    )
}

#[async_trait]
impl Handler for Elsewhere {
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        match &self.local {
            Some(local) => local.put(context, descriptor, messages).await,
            None => Err(no_store("put")),
        }
    }

    async fn get(&self, context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        let Some(local) = &self.local else {
            return Err(if is_last(context) { here_not(ticket) } else { no_store(ticket) });
        };
        let here = match local.get(context, ticket).await {
            Err(error) if error.code() == Code::NotFound && !is_last(context) => error,
            answer => return answer,
        };
        let id = ticket.parse::<Ticket>()?.id;
        let options = onward(context);
        let ask = |server: FlightConnection| {
            let (ticket, options) = (ticket.to_owned(), options.clone());
            async move { server.get(&ticket, &options).await }.boxed()
        };
        match self.first(&id, ask).await {
            Ok((messages, _)) => Ok(messages),
            Err(error) if error.code() == Code::NotFound => Err(here),
            Err(error) => Err(error),
        }
    }

    async fn list(
        &self,
        context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        match &self.local {
            Some(local) => local.list(context, criteria).await,
            None => Ok(stream::empty().boxed()),
        }
    }

    async fn info(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, Error> {
        if let Some(local) = &self.local {
            match local.info(context, descriptor.clone()).await {
                Err(error) if error.code() == Code::NotFound && !is_last(context) => {}
                answer => return answer,
            }
        }
        let path = &descriptor.path;
        if is_last(context) {
            // Also where there is no store: a coordinator that is named as the
            // place of a payload must not ask itself for ever.
            return Err(here_not(&path.join("/")));
        }
        let [_, name] = path.as_slice() else { return Err(no_store("a path without a name")) };
        let id = BatchId::try_new(name)
            .map_err(|error| sheaf_flight::invalid(format!("path {path:?}: {error}")))?;
        let options = onward(context);
        let ask = |server: FlightConnection| {
            let (id, options) = (id.clone(), options.clone());
            async move { server.info(&[NAMESPACE, id.as_str()], &options).await }.boxed()
        };
        let (mut entry, address) = self.first(&id, ask).await?;
        for endpoint in entry.endpoints.iter_mut().filter(|one| one.locations.is_empty()) {
            endpoint.locations.push(address.clone());
        }
        Ok(entry)
    }

    async fn exchange(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        match &self.local {
            Some(local) => local.exchange(context, descriptor, messages).await,
            None => Err(no_store("exchange")),
        }
    }

    async fn renew(&self, context: &CallContext, ticket: &str) -> Result<EndpointEntry, Error> {
        match &self.local {
            Some(local) => local.renew(context, ticket).await,
            None => Err(no_store(ticket)),
        }
    }

    async fn cancel(&self, context: &CallContext, ticket: &str) -> Result<bool, Error> {
        match &self.local {
            Some(local) => local.cancel(context, ticket).await,
            None => Ok(false),
        }
    }
}
