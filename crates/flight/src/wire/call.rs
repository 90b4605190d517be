//! The calling side of the data calls.

use arrow_flight::PutResult;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::{Code as Grpc, Status};
use tower::Service as _;

use super::incoming::{Failure, Incoming};
use super::memory::Memory;
use super::{PREFIX, framed};
use crate::client::Channel;
use crate::message::Message;
use crate::metrics::Copies;
use crate::status::without_status;

/// The path of each call.
pub(crate) const GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
pub(crate) const PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";
pub(crate) const EXCHANGE: &str = "/arrow.flight.protocol.FlightService/DoExchange";

/// The most bytes of an answer that is one short message.
const MAX_ANSWER: usize = 16 << 20;

/// A request of one short message.
pub(crate) fn one(message: &impl prost::Message) -> Body {
    Body::new(Full::new(framed(message)))
}

/// An answer that has begun well.
pub(crate) struct Opened {
    body: Body,
    /// There is nothing to come: it ended well with its first headers.
    is_over: bool,
}

/// Makes a call and waits for its answer to begin.
pub(crate) async fn open(
    mut channel: Channel,
    path: &'static str,
    request: tonic::Request<Body>,
) -> Result<Opened, Status> {
    let (metadata, _, body) = request.into_parts();
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from(PathAndQuery::from_static(path));
    let mut headers = metadata.into_headers();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    *request.headers_mut() = headers;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    let response = channel.call(request).await.map_err(failed)?;
    check(response)
}

/// The same words, and the same cause inside, as from gRPC's own client.
fn failed(error: tonic::transport::Error) -> Status {
    Status::from_error(error.into())
}

fn check(response: Response<Body>) -> Result<Opened, Status> {
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        if status.code() != Grpc::Ok {
            return Err(status);
        }
        // Over before it began.
        return Ok(Opened { body, is_over: true });
    }
    if parts.status != StatusCode::OK {
        return Err(without_status(parts.status));
    }
    if let Some(encoding) = parts.headers.get("grpc-encoding")
        && encoding != "identity"
    {
        let text = format!("the server compresses with {encoding:?}, which nobody asked for");
        return Err(Status::unimplemented(text));
    }
    Ok(Opened { body, is_over: false })
}

/// An answer of short messages to its end: the first of them.
///
/// The status comes after the messages: only it says that all is well.
pub(crate) async fn read_answer(opened: Opened) -> Result<Option<Bytes>, Status> {
    if opened.is_over {
        return Ok(None);
    }
    let mut body = opened.body;
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await.transpose()? {
        match frame.into_data() {
            Ok(piece) if bytes.len() + piece.len() > MAX_ANSWER => {
                return Err(Status::out_of_range("the server's answer to a put is too long"));
            }
            Ok(piece) => bytes.put(piece),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    ended(trailers.as_ref())?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let broken = || Status::internal("the server's answer to a put cannot be read");
    let [flag, length @ ..] = *bytes.first_chunk::<PREFIX>().ok_or_else(broken)?;
    let end = PREFIX.saturating_add(u32::from_be_bytes(length) as usize);
    let first = bytes.get(PREFIX..end).filter(|_| flag == 0).ok_or_else(broken)?;
    Ok(Some(<PutResult as prost::Message>::decode(first).map_err(|_| broken())?.app_metadata))
}

/// How an answer ended, by its trailers.
fn ended(trailers: Option<&http::HeaderMap>) -> Result<(), Status> {
    match trailers.and_then(Status::from_header_map) {
        Some(status) if status.code() == Grpc::Ok => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::unavailable("the server ended its answer without a status")),
    }
}

impl Opened {
    /// The messages of the answer, each of at most `limit` bytes; the last
    /// item is an error where it did not end well.
    pub(crate) fn messages(
        self,
        limit: usize,
        memory: Memory,
        copies: Copies,
    ) -> impl Stream<Item = Result<Message, Failure>> + Send + use<> {
        let first = (!self.is_over).then(|| Incoming::new(self.body, limit, memory, copies));
        stream::unfold(first, |incoming| async move {
            let mut incoming = incoming?;
            match incoming.next().await {
                Some(Ok(received)) => Some((Ok(received.message), Some(incoming))),
                Some(Err(failure)) => Some((Err(failure), None)),
                None => {
                    let status = ended(incoming.trailers()).err()?;
                    Some((Err(Failure::Status(status)), None))
                }
            }
        })
    }
}
