//! The plain path: the stock Flight service on one side, [`FlightRouter`] on the other.
//!
//! The calls that move data are served by [`crate::wire`], unless a server is
//! told to do without; all others are served here.

mod convert;
mod login;

use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use sheaf_retry::Code;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use login::Handshake;
#[cfg(feature = "fuzzing")]
pub(crate) use login::{basic, basic_auth};

pub(crate) use convert::{
    asked, descriptor_to_wire, endpoint_to_wire, info_from_wire, info_to_wire, message_from_wire,
    message_to_wire, progress_to_wire,
};

use crate::caller::Caller;
use crate::error::{Error, invalid};
use crate::fallback::PutResults;
use crate::handler::{CallContext, MessageStream};
use crate::router::{Asked, FlightRouter};
use crate::status::inbound;
use crate::wire;

/// What gRPC framing, descriptor and field tags may add to a message: the
/// exact limit is checked on the message itself.
pub(crate) const FRAMING_BYTES: usize = 64 << 10;
/// Largest payload of a handshake message that is echoed; with names and
/// passwords to check, all bytes of a handshake.
pub(crate) const MAX_HANDSHAKE: usize = 64 << 10;

/// The name of Flight's gRPC service.
pub(crate) const FLIGHT_SERVICE: &str = "arrow.flight.protocol.FlightService";

pub(crate) struct Plain {
    router: FlightRouter,
}

type Answer<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

impl Plain {
    /// The service of a router.
    pub(crate) fn new(router: FlightRouter) -> Self {
        Plain { router }
    }

    /// The generated server around a router.
    pub(crate) fn server(router: FlightRouter) -> FlightServiceServer<Plain> {
        let limit = router.limits().max_message_bytes.saturating_add(FRAMING_BYTES);
        FlightServiceServer::from_arc(Arc::new(Plain::new(router)))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }

    /// Stores a stream of which gRPC has made messages.
    pub(crate) async fn put<S>(&self, context: &CallContext, stream: S) -> Result<PutResults, Error>
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
    {
        let (descriptor, messages) = self.open(stream).await?;
        self.router.put(context, descriptor, messages).await
    }

    /// Peer, headers, session and token of a call.
    fn context<T>(&self, request: &Request<T>) -> CallContext {
        wire::context(&self.router, request.metadata().as_ref(), request.extensions())
    }

    /// The messages of a stream, and the descriptor that its first one carries.
    async fn open<S>(&self, mut stream: S) -> Result<(Asked, MessageStream), Error>
    where
        S: Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
    {
        let core = Arc::clone(&self.router.core);
        let limit = core.limits.max_message_bytes;
        let broken = move |status: Status| {
            if status.code() == tonic::Code::OutOfRange {
                core.metrics.rejected("message");
            }
            inbound(status, limit)
        };
        let Some(mut first) = stream.next().await.transpose().map_err(&broken)? else {
            return Err(Error::new(
                Code::MalformedData,
                "the stream is empty; its first message carries descriptor and schema",
            ));
        };
        let descriptor = asked(first.flight_descriptor.take());
        let first = message_from_wire(first);
        // Some clients send the descriptor alone, before anything else.
        let first = (!first.is_empty()).then_some(Ok(first));
        let rest = stream.map(move |data| data.map(message_from_wire).map_err(&broken));
        Ok((descriptor, stream::iter(first).chain(rest).boxed()))
    }
}

/// Messages as they go out; an error ends the stream.
fn to_wire(messages: MessageStream) -> BoxStream<'static, Result<FlightData, Status>> {
    messages.map_ok(message_to_wire).map_err(Status::from).boxed()
}

#[async_trait]
impl FlightService for Plain {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    /// Without names and passwords to check, what comes is sent back.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<HandshakeResponse> {
        if let Some(handshake) = request.extensions().get::<Handshake>().cloned() {
            let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
            let answer = handshake.answer(request.into_inner()).await;
            return answer.inspect_err(|status| caller.refused_at_all(&status.clone().into()));
        }
        let echo = request.into_inner().map(|request| {
            let HandshakeRequest { protocol_version, payload } = request?;
            if payload.len() > MAX_HANDSHAKE {
                return Err(Status::from(Error::new(
                    Code::LimitExceeded,
                    format!(
                        "the handshake has {} bytes, at most {MAX_HANDSHAKE} are allowed",
                        payload.len()
                    ),
                )));
            }
            Ok(HandshakeResponse { protocol_version, payload })
        });
        Ok(Response::new(echo.boxed()))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<FlightInfo> {
        let context = self.context(&request);
        let entries = self.router.list(context, request.into_inner().expression);
        Ok(Response::new(entries.map_ok(info_to_wire).map_err(Status::from).boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let context = self.context(&request);
        let entry = self.router.info(&context, asked(Some(request.into_inner()))).await?;
        Ok(Response::new(info_to_wire(entry)))
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let context = self.context(&request);
        let progress = self.router.poll(&context, asked(Some(request.into_inner()))).await?;
        Ok(Response::new(progress_to_wire(progress)?))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let info = self.get_flight_info(request).await?.into_inner();
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<FlightData> {
        let context = self.context(&request);
        let messages = self.router.get(&context, &request.into_inner().ticket).await?;
        Ok(Response::new(to_wire(messages)))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        let context = self.context(&request);
        let results = self.put(&context, request.into_inner()).await?;
        let results = results.map_ok(|app_metadata| PutResult { app_metadata });
        Ok(Response::new(results.map_err(Status::from).boxed()))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        let context = self.context(&request);
        let (descriptor, messages) = self.open(request.into_inner()).await?;
        let answers = self.router.exchange(&context, descriptor, messages).await?;
        Ok(Response::new(to_wire(answers)))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<arrow_flight::Result> {
        let context = self.context(&request);
        let Action { r#type, body } = request.into_inner();
        let reply = self.router.action(&context, &r#type, body).await?;
        let results = reply.results.into_iter().map(|body| Ok(arrow_flight::Result { body }));
        let mut response = Response::new(stream::iter(results).boxed());
        if let Some(cookie) = reply.set_cookie {
            let cookie = cookie.parse().map_err(|_| {
                Status::from(invalid("the session cookie has characters that no header takes"))
            })?;
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Answer<ActionType> {
        let types = self.router.actions().into_iter().map(|(name, description)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        });
        Ok(Response::new(stream::iter(types).boxed()))
    }
}
