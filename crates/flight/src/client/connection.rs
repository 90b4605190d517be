//! Flight calls to one server.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, Empty, FlightDescriptor, Ticket};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{CallOptions, Channel, ClientConfig, Target, Transfer};
use crate::error::{Error, invalid};
use crate::handler::{FlightEntry, MessageStream, RawDescriptor};
use crate::limits::MAX_MESSAGE_BYTES;
use crate::plain::{FRAMING_BYTES, descriptor_to_wire, info_from_wire};
use crate::wire::{self, Failure, Opened};

/// Flight calls to one server, over a channel shared with others. Cheap to clone.
///
/// Calls that only read are retried by [`ClientConfig::retry`] until their
/// first answer; what fails within a stream is the reader's to deal with, who
/// knows how much of it came. A put is never retried here: its stream is used
/// up. Every error names the server.
#[derive(Clone)]
pub struct FlightConnection {
    target: Target,
    stubs: Stubs,
    config: Arc<ClientConfig>,
    transfer: Transfer,
    clock: SharedClock,
}

/// What calls are made with.
#[derive(Clone)]
struct Stubs {
    /// Calls that move no data.
    flight: FlightServiceClient<Channel>,
    channel: Channel,
}

impl FlightConnection {
    pub(super) fn new(
        target: Target,
        channel: Channel,
        config: Arc<ClientConfig>,
        transfer: Transfer,
        clock: SharedClock,
    ) -> Self {
        let limit = config.max_message_bytes.saturating_add(FRAMING_BYTES);
        let flight = FlightServiceClient::new(channel.clone())
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let stubs = Stubs { flight, channel };
        FlightConnection { target, stubs, config, transfer, clock }
    }

    /// Whom it calls.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The channel, for other gRPC services on the same port: their calls carry
    /// the token too.
    pub fn channel(&self) -> Channel {
        self.stubs.channel.clone()
    }

    /// Puts a stream (schema first) and returns the `app_metadata` of the
    /// answer. Where `messages` yields an error, the call is broken off, the
    /// server keeps nothing, and the error is returned.
    ///
    /// There is no deadline but that of `options`, since only the caller knows
    /// how long its data takes.
    ///
    /// # Errors
    /// Those of the server, of `messages`, `unavailable`, `deadline_exceeded`.
    pub async fn put(
        &self,
        path: &[&str],
        options: &CallOptions,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let (request, failure) = self.data_request(path, options, options.deadline, messages)?;
        let channel = self.stubs.channel.clone();
        let call = async move {
            let opened = wire::open(channel, wire::PUT, request).await?;
            wire::read_answer(opened).await
        };
        let call = self.within(options.deadline, "DoPut", call);
        let result = tokio::select! {
            biased;
            Ok(error) = failure => Err(error),
            result = call => result,
        }?;
        result.ok_or_else(|| {
            Error::new(Code::Internal, format!("{} acknowledged nothing", self.target))
        })
    }

    /// Opens the stream of a ticket; the schema comes first.
    ///
    /// # Errors
    /// Those of the server, `unavailable`, `deadline_exceeded`; the stream
    /// itself may end with an error too.
    pub async fn get(
        &self,
        ticket: impl AsRef<[u8]> + Send,
        options: &CallOptions,
    ) -> Result<MessageStream, Error> {
        let ticket = Ticket { ticket: Bytes::copy_from_slice(ticket.as_ref()) };
        let answer = self.read("DoGet", ticket, options, async |stubs, request| {
            let request = request.map(|ticket| wire::one(&ticket));
            wire::open(stubs.channel, wire::GET, request).await.map(Response::new)
        });
        Ok(self.messages(answer.await?))
    }

    /// What a path names.
    ///
    /// # Errors
    /// Those of the server, `unavailable`, `deadline_exceeded`.
    pub async fn info(&self, path: &[&str], options: &CallOptions) -> Result<FlightEntry, Error> {
        let asked = descriptor(path);
        let answer = self.read("GetFlightInfo", asked, options, async |mut stubs, request| {
            stubs.flight.get_flight_info(request).await
        });
        info_from_wire(answer.await?)
    }

    /// Everything that the server offers and `criteria` selects.
    ///
    /// # Errors
    /// As [`FlightConnection::get`].
    pub async fn list(
        &self,
        criteria: Bytes,
        options: &CallOptions,
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        let criteria = Criteria { expression: criteria };
        let answer = self.read("ListFlights", criteria, options, async |mut stubs, request| {
            stubs.flight.list_flights(request).await
        });
        let target = self.target.clone();
        let entries = answer.await?.map(move |info| match info {
            Ok(info) => info_from_wire(info),
            Err(status) => Err(named(&target, status)),
        });
        Ok(entries.boxed())
    }

    /// Runs an action and returns all its results. Retried only where
    /// [`CallOptions::idempotent`] allows it.
    ///
    /// # Errors
    /// Those of the server, `unavailable`, `deadline_exceeded`.
    pub async fn action(
        &self,
        name: &str,
        body: Bytes,
        options: &CallOptions,
    ) -> Result<Vec<Bytes>, Error> {
        let action = Action { r#type: name.to_owned(), body };
        let mut options = options.clone();
        if !options.idempotent {
            options.retry = Some(RetryPolicy::none());
        }
        // The deadline holds for the whole answer, which is short.
        let answer = self.read(name, action, &options, async |mut stubs, request| {
            let results = stubs.flight.do_action(request).await?.into_inner();
            let bodies: Vec<Bytes> = results.map_ok(|result| result.body).try_collect().await?;
            Ok(Response::new(bodies))
        });
        answer.await
    }

    /// Whether the server takes work, as it tells everybody: gRPC health, which
    /// needs no token. `service` is empty for the server as a whole.
    ///
    /// # Errors
    /// `not_found` for a service that it does not know, `unimplemented` where
    /// it has no gRPC health; `unavailable`, `deadline_exceeded`.
    pub async fn is_serving(&self, service: &str, options: &CallOptions) -> Result<bool, Error> {
        let deadline = options.deadline.or(self.config.deadline);
        let asked = HealthCheckRequest { service: service.to_owned() };
        let request = self.request(asked, options, None)?;
        let mut client = HealthClient::new(self.stubs.channel.clone());
        let call = async move { client.check(request).await };
        let answer = self.within(deadline, "Check", call).await?.into_inner();
        Ok(answer.status() == ServingStatus::Serving)
    }

    /// Names and descriptions of the server's actions.
    ///
    /// # Errors
    /// Those of the server, `unavailable`, `deadline_exceeded`.
    pub async fn actions(&self, options: &CallOptions) -> Result<Vec<(String, String)>, Error> {
        let answer = self.read("ListActions", Empty {}, options, async |mut stubs, request| {
            let types = stubs.flight.list_actions(request).await?.into_inner();
            let pairs: Vec<(String, String)> =
                types.map_ok(|one| (one.r#type, one.description)).try_collect().await?;
            Ok(Response::new(pairs))
        });
        answer.await
    }

    /// Holds a conversation: what is sent and what comes back run side by
    /// side. An error of `messages` turns up in the stream returned.
    ///
    /// # Errors
    /// As [`FlightConnection::get`], without retries.
    pub async fn exchange(
        &self,
        path: &[&str],
        options: &CallOptions,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        let (request, failure) = self.data_request(path, options, None, messages)?;
        // Fused: it is asked again after the stream has ended well.
        let mut failure = failure.fuse();
        let deadline = options.deadline.or(self.config.deadline);
        let opened = wire::open(self.stubs.channel.clone(), wire::EXCHANGE, request);
        let call = self.within(deadline, "DoExchange", opened);
        let answer = tokio::select! {
            biased;
            Ok(error) = &mut failure => return Err(error),
            answer = call => answer?,
        };
        let answers = self.messages(answer);
        // Dropping the answers is what breaks the call off.
        let failed = futures::stream::once(failure).filter_map(|failed| async { failed.ok() });
        let both =
            futures::stream::select(answers.map(Some).chain(ended()), failed.map(|e| Some(Err(e))));
        Ok(both
            .scan(false, |over, item| {
                let item = if *over { None } else { item };
                *over = !matches!(item, Some(Ok(_)));
                futures::future::ready(item)
            })
            .boxed())
    }

    /// A call that only reads: with retries and deadline, headers and target.
    async fn read<M, T>(
        &self,
        what: &str,
        message: M,
        options: &CallOptions,
        call: impl AsyncFn(Stubs, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Error>
    where
        M: Clone,
    {
        let deadline = options.deadline.or(self.config.deadline);
        let policy = options.retry.as_ref().unwrap_or(&self.config.retry);
        let attempt = async |_attempt: u32| {
            let request = self.request(message.clone(), options, None)?;
            let answer = call(self.stubs.clone(), request);
            self.within(deadline, what, answer).await.map(Response::into_inner)
        };
        let clock = self.clock.clone();
        match sheaf_retry::retry(policy, self.config.seed, clock, attempt).await {
            Ok(answer) => Ok(answer),
            // What was tried once is told as it is.
            Err(error) if error.attempts() == 1 => Err(error.into_last()),
            Err(error) => Err(Error::from_error(error)),
        }
    }

    /// A request with its headers; `timeout` tells the server to give up too.
    fn request<M>(
        &self,
        message: M,
        options: &CallOptions,
        timeout: Option<Duration>,
    ) -> Result<Request<M>, Error> {
        let mut request = Request::new(message);
        for (name, value) in &options.headers {
            let key = MetadataKey::from_bytes(name.as_bytes())
                .map_err(|_| invalid(format!("{name:?} is no name of a header")))?;
            let value = MetadataValue::try_from(value.as_str())
                .map_err(|_| invalid(format!("the value of header {name:?} is not ASCII")))?;
            request.metadata_mut().append(key, value);
        }
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }

    async fn within<T>(
        &self,
        deadline: Option<Duration>,
        what: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        let Some(deadline) = deadline else {
            return call.await.map_err(|status| named(&self.target, status));
        };
        tokio::select! {
            biased;
            result = call => result.map_err(|status| named(&self.target, status)),
            () = self.clock.sleep(deadline) => Err(Error::new(
                Code::DeadlineExceeded,
                format!("{}: no answer to {what} within {} ms", self.target, deadline.as_millis()),
            )),
        }
    }

    /// A request whose body is messages, the first with the descriptor of a path,
    /// and where an error of theirs turns up.
    fn data_request(
        &self,
        path: &[&str],
        options: &CallOptions,
        timeout: Option<Duration>,
        messages: MessageStream,
    ) -> Result<(Request<Body>, oneshot::Receiver<Error>), Error> {
        let sent = self.transfer.copies.sent.clone();
        let limit = self.config.max_message_bytes.min(MAX_MESSAGE_BYTES);
        let (messages, failure) = wire::source(messages, limit);
        let body = wire::requests(&descriptor(path), messages, sent);
        Ok((self.request(body, options, timeout)?, failure))
    }

    fn messages(&self, opened: Opened) -> MessageStream {
        let target = self.target.clone();
        let Transfer { memory, copies } = self.transfer.clone();
        let messages = opened.messages(self.config.max_message_bytes, memory, copies.received);
        let messages = messages.map_err(move |failure| match failure {
            Failure::Status(status) => named(&target, status),
            Failure::Cut => {
                let text = "the server's answer ends within a message";
                named(&target, Status::unavailable(text))
            }
            Failure::Wrong(error) => {
                Error::new(error.code(), format!("{target}: {}", error.message()))
            }
        });
        messages.boxed()
    }
}

impl std::fmt::Debug for FlightConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightConnection").field("target", &self.target).finish_non_exhaustive()
    }
}

fn descriptor(path: &[&str]) -> FlightDescriptor {
    descriptor_to_wire(RawDescriptor::Path(path.iter().map(|&one| one.to_owned()).collect()))
}

/// The end of the answers, as an item: it ends the conversation.
fn ended() -> impl futures::Stream<Item = Option<Result<crate::Message, Error>>> {
    futures::stream::once(async { None })
}

/// A status as an error that names the server it came from.
fn named(target: &Target, status: Status) -> Error {
    let error = Error::from(status);
    let named = Error::new(error.code(), format!("{target}: {}", error.message()));
    match error.retry_after() {
        Some(after) => named.with_retry_after(after),
        None => named,
    }
}
