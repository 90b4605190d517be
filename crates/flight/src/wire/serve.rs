//! The serving side of the data calls.

use std::sync::Arc;

use arrow_flight::{FlightDescriptor, PutResult, Ticket};
use bytes::BytesMut;
use futures::stream::{self, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use sheaf_retry::{Code, Retryable as _};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;

use super::incoming::{Failure, Incoming};
use super::outgoing::Outgoing;
use super::{PREFIX, Sending, framed};
use crate::caller::{Caller, CertificateNames};
use crate::error::{Error, invalid};
use crate::fallback::PutResults;
use crate::handler::{CallContext, MessageStream};
use crate::plain::{FLIGHT_SERVICE, asked};
use crate::router::{Asked, FlightRouter};
use crate::server::trailers;
use crate::status::inbound;

/// What a ticket and the message around it may have; the router has limits of its own.
const MAX_TICKET: usize = 64 << 10;

/// A call that moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Get,
    Put,
    Exchange,
}

impl Data {
    /// The call of a path, unless it is none of these.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let method = path.trim_start_matches('/').strip_prefix(FLIGHT_SERVICE)?;
        match method {
            "/DoGet" => Some(Data::Get),
            "/DoPut" => Some(Data::Put),
            "/DoExchange" => Some(Data::Exchange),
            _ => None,
        }
    }
}

/// Answers a data call.
pub(crate) async fn serve(
    router: &FlightRouter,
    call: Data,
    request: Request<Body>,
) -> Response<Body> {
    match answer(router, call, request).await {
        Ok(body) => {
            let mut response = Response::new(body);
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => Status::from(error).into_http(),
    }
}

async fn answer(router: &FlightRouter, call: Data, request: Request<Body>) -> Result<Body, Error> {
    let (parts, body) = request.into_parts();
    uncompressed(&parts.headers)?;
    let context = context(router, &parts.headers, &parts.extensions);
    let copies = router.core.metrics.copies.sent.clone();
    let sending = Sending::new(router.core.memory.budget());
    match call {
        Data::Get => {
            let ticket = ticket(body).await?;
            let messages = router.get(&context, &ticket.ticket).await?;
            Ok(Body::new(Outgoing::answer(messages, copies, sending)))
        }
        Data::Put => {
            let (asked, messages) = incoming(router, &context, body).await?;
            Ok(results(router.put(&context, asked, messages).await?))
        }
        Data::Exchange => {
            let (asked, messages) = incoming(router, &context, body).await?;
            let messages = router.exchange(&context, asked, messages).await?;
            Ok(Body::new(Outgoing::answer(messages, copies, sending)))
        }
    }
}

/// Peer, headers, session and token of a call.
pub(crate) fn context(
    router: &FlightRouter,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> CallContext {
    let peer = extensions.get::<TcpConnectInfo>().and_then(|info| info.remote_addr);
    let caller = extensions.get::<Caller>().cloned().unwrap_or_default();
    let identity = caller.name().map(str::to_owned);
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter(|(name, _)| !name.as_str().ends_with("-bin"))
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let session = router.session_of(&headers);
    let core = Arc::downgrade(&router.core);
    let certificate = extensions.get::<CertificateNames>().cloned();
    CallContext { peer, headers, session, identity, caller, certificate, core }
}

/// gRPC's own compression is not offered, so nobody should use it.
fn uncompressed(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => Err(Error::new(
            Code::Unimplemented,
            format!("messages compressed with {encoding:?} cannot be read; send them uncompressed"),
        )),
        _ => Ok(()),
    }
}

/// The one message of a DoGet.
async fn ticket(mut body: Body) -> Result<Ticket, Error> {
    let mut bytes = BytesMut::new();
    loop {
        let whole = bytes
            .first_chunk::<PREFIX>()
            .map(|[_, length @ ..]| PREFIX.saturating_add(u32::from_be_bytes(*length) as usize));
        if let Some(whole) = whole {
            if bytes[0] != 0 {
                return Err(Error::new(Code::Unimplemented, "the ticket is compressed by gRPC"));
            }
            if whole > MAX_TICKET {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!("the ticket has {whole} bytes, at most {MAX_TICKET} are allowed"),
                ));
            }
            if bytes.len() >= whole {
                return Ticket::decode(&bytes[PREFIX..whole])
                    .map_err(|error| invalid(format!("no ticket: {error}")));
            }
        }
        match body.frame().await.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(piece))) if bytes.len() + piece.len() > MAX_TICKET + PREFIX => {
                let text = format!("DoGet has one message of at most {MAX_TICKET} bytes");
                return Err(Error::new(Code::LimitExceeded, text));
            }
            Some(Ok(Ok(piece))) => bytes.extend_from_slice(&piece),
            Some(Ok(Err(_))) | None => return Err(invalid("DoGet came without a ticket")),
            Some(Err(status)) => return Err(inbound(status, MAX_TICKET)),
        }
    }
}

/// The messages of a request, and the descriptor that its first one carries: the
/// call ends with that where it may not write there, before the rest of the
/// message has come.
async fn incoming(
    router: &FlightRouter,
    context: &CallContext,
    body: Body,
) -> Result<(Asked, MessageStream), Error> {
    let core = &router.core;
    let limit = core.limits.max_message_bytes;
    let copies = core.metrics.copies.received.clone();
    let metrics = core.metrics.clone();
    let admit = {
        let (router, context) = (router.clone(), context.clone());
        Box::new(move |descriptor: &FlightDescriptor| {
            router.may_write(&context, asked(Some(descriptor.clone())))
        })
    };
    let messages = Incoming::new(body, limit, core.memory.clone(), copies).admitting(admit);
    let mut messages = messages.map(move |item| {
        item.map_err(|failure| match failure {
            Failure::Status(status) => inbound(status, limit),
            Failure::Cut => Error::new(
                Code::MalformedData,
                "the stream ends within a message; send it again whole",
            ),
            Failure::Wrong(error) => {
                match error.code() {
                    Code::LimitExceeded => metrics.rejected("message"),
                    Code::MemoryFull => metrics.rejected("memory"),
                    _ => {}
                }
                error
            }
        })
    });
    let Some(first) = messages.next().await.transpose()? else {
        return Err(Error::new(
            Code::MalformedData,
            "the stream is empty; its first message carries descriptor and schema",
        ));
    };
    // Some clients send the descriptor alone, before anything else.
    let rest = messages.map(|item| item.map(|received| received.message));
    let first_message = (!first.message.is_empty()).then_some(Ok(first.message));
    Ok((asked(first.descriptor), stream::iter(first_message).chain(rest).boxed()))
}

/// The answers of a put; trailers say how they ended.
fn results(results: PutResults) -> Body {
    let state = Some(results);
    let frames = stream::unfold(state, |results| async move {
        let mut results = results?;
        let ended = match results.next().await {
            Some(Ok(app_metadata)) => {
                let frame = Frame::data(framed(&PutResult { app_metadata }));
                return Some((Ok::<_, Status>(frame), Some(results)));
            }
            Some(Err(error)) => Status::from(error),
            None => Status::ok(""),
        };
        Some((Ok(Frame::trailers(trailers(ended))), None))
    });
    Body::new(StreamBody::new(frames))
}
