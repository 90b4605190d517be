//! Actions over HTTP/1.1 and JSON, on the same port: for `curl`, and for whoever has no gRPC.
//!
//! `POST /api/flight/do_action` with `{"type": "Stats", "body": {"queue": "default"}}`
//! becomes the gRPC call DoAction with the same headers, and goes through the
//! same gate: tokens, rights, limits and audit are those of gRPC. The type
//! `list_actions` answers what there is.
//!
//! A page of a web browser cannot use it: what has an `Origin` is refused, and
//! the content type has to be JSON, for which browsers ask first.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{Action, ActionType, Empty};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tonic::Status;
use tonic::body::Body;

use super::call::CallService;
use crate::error::{Error, invalid};
use crate::router::Core;
use crate::status::http_status;

/// Where actions are asked for.
pub(super) const PATH: &str = "/api/flight/do_action";

/// The action that tells of the others.
const LIST: &str = "list_actions";
const DO_ACTION: &str = "/arrow.flight.protocol.FlightService/DoAction";
const LIST_ACTIONS: &str = "/arrow.flight.protocol.FlightService/ListActions";
/// A gRPC message begins with whether it is compressed, and its length.
const PREFIX: usize = 5;
/// JSON around the body of an action.
const AROUND: usize = 4 << 10;

/// Headers that belong to the connection or are said anew.
const OWN: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    r#type: String,
    /// JSON as the action takes it; text is sent as it is.
    #[serde(default)]
    body: Option<Value>,
    /// Bytes that are no text.
    #[serde(default)]
    body_base64: Option<String>,
}

/// Actions of a Flight port as JSON, for another HTTP port of the process.
#[derive(Clone)]
pub struct WebActions(pub(super) Web);

impl WebActions {
    /// Where they are asked for, by POST.
    pub const PATH: &'static str = PATH;

    /// The answer to one request, through the gate of the Flight port: also where
    /// the other port has let it in, its token is held against the action.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.0.clone().answer(request).await
    }
}

impl std::fmt::Debug for WebActions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebActions").finish()
    }
}

/// How one request is answered.
#[derive(Clone)]
pub(super) struct Web {
    service: CallService,
    core: Arc<Core>,
    clock: SharedClock,
    /// Bytes of the body of an action.
    limit: usize,
    /// How long a request may take to come.
    pub(super) patience: Duration,
}

impl Web {
    /// Has the service answer.
    pub(super) fn new(service: CallService, core: &Arc<Core>) -> Self {
        let (limit, patience) = (core.limits.max_action_bytes, core.limits.put_idle_timeout);
        Web { service, core: Arc::clone(core), clock: Arc::clone(&core.clock), limit, patience }
    }

    /// The answer to one request.
    pub(super) async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(refused) = misdirected(&request) {
            return refused;
        }
        match self.run(request).await {
            Ok(value) => with(StatusCode::OK, &value),
            Err(error) => refusal(&error),
        }
    }

    async fn run<B>(self, request: Request<B>) -> Result<Value, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        check(request.headers())?;
        let (parts, body) = request.into_parts();
        let asked = self.read(body).await?;
        if self.core.is_without_json(&asked.r#type) {
            let text = format!("{}: servers call it among themselves, over gRPC", asked.r#type);
            return Err(Error::new(Code::PermissionDenied, text));
        }
        let is_list = asked.r#type == LIST;
        let (path, message) = match is_list {
            true => (LIST_ACTIONS, Empty {}.encode_to_vec()),
            false => (DO_ACTION, action(asked)?.encode_to_vec()),
        };
        let mut call = Request::new(Body::new(Full::new(framed(&message))));
        *call.method_mut() = Method::POST;
        *call.uri_mut() = http::Uri::from_static(path);
        *call.headers_mut() = forwarded(&parts.headers);
        *call.extensions_mut() = parts.extensions;
        let response = self.service.run(call).await;
        let messages = collected(response).await?;
        match is_list {
            true => listed(&messages),
            false => results(&messages),
        }
    }

    /// The JSON of a request.
    async fn read<B>(&self, body: B) -> Result<Asked, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Base64 has four characters for three bytes.
        let limit = self.limit.saturating_mul(4) / 3 + AROUND;
        let coming = std::pin::pin!(Limited::new(body, limit).collect());
        let read = tokio::select! {
            biased;
            read = coming => read,
            () = self.clock.sleep(self.patience) => {
                let seconds = self.patience.as_secs();
                let text = format!("the request did not come within {seconds} s");
                return Err(Error::new(Code::DeadlineExceeded, text));
            }
        };
        let read = read.map_err(|error| match error.is::<LengthLimitError>() {
            true => Error::new(
                Code::LimitExceeded,
                format!("the request has more than {limit} bytes, as max_action_bytes allows"),
            ),
            false => Error::new(Code::Unavailable, format!("the request was broken off: {error}")),
        })?;
        serde_json::from_slice(&read.to_bytes()).map_err(|error| {
            invalid(format!(
                "{error}: a request is JSON such as {{\"type\": \"{LIST}\"}} or {{\"type\": \
                 \"Stats\", \"body\": {{\"queue\": \"default\"}}}}"
            ))
        })
    }
}

/// What is not asked for in the right place or way.
fn misdirected<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    if request.uri().path() != PATH {
        let text = format!(
            "{} is not here: this port speaks Arrow Flight over gRPC, and answers actions at \
             POST {PATH}",
            request.uri().path().chars().take(100).collect::<String>()
        );
        return Some(refusal(&Error::new(Code::NotFound, text)));
    }
    if request.method() != Method::POST {
        let error = invalid(format!("send POST, not {}", request.method()));
        let mut response = with(StatusCode::METHOD_NOT_ALLOWED, &told(&error));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    None
}

/// Keeps out the pages of browsers, which send what they are not allowed to read.
fn check(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(ORIGIN) {
        let text = "requests of web pages, which have the header Origin, are not answered";
        return Err(Error::new(Code::PermissionDenied, text));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(invalid("the header Content-Type is not application/json"))
}

fn action(asked: Asked) -> Result<Action, Error> {
    let body = match (asked.body, asked.body_base64) {
        (Some(_), Some(_)) => {
            return Err(invalid("body and body_base64 are both there; give one of them"));
        }
        (None, None) => Vec::new(),
        (Some(Value::String(text)), None) => text.into_bytes(),
        (Some(value), None) => value.to_string().into_bytes(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|error| invalid(format!("body_base64: {error}")))?
        }
    };
    Ok(Action { r#type: asked.r#type, body: body.into() })
}

/// A gRPC message with its prefix.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The headers of the call: token and session go with it.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let passed = headers
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()) && !name.as_str().starts_with("grpc-"));
    let mut passed: HeaderMap = passed.map(|(name, value)| (name.clone(), value.clone())).collect();
    passed.remove(CONTENT_LENGTH);
    passed.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    passed.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    passed
}

/// The messages of an answer, or the error that it ended with.
async fn collected(response: Response<Body>) -> Result<Vec<Bytes>, Error> {
    let (parts, mut body) = response.into_parts();
    let (mut read, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        // Each piece is copied and let go of: the answer ends when none is left.
        match frame.map_err(Error::from)?.into_data() {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(end) => trailers = end.into_trailers().ok(),
        }
    }
    let ended = trailers.as_ref().and_then(Status::from_header_map);
    let ended = ended.or_else(|| Status::from_header_map(&parts.headers));
    match ended {
        Some(status) if status.code() != tonic::Code::Ok => return Err(Error::from(status)),
        Some(_) => {}
        None => return Err(Error::new(Code::Internal, "the answer has no end")),
    }
    let mut bytes = read.freeze();
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let torn = || Error::new(Code::Internal, "the answer is no sequence of gRPC messages");
        let length = bytes.get(1..PREFIX).and_then(|length| length.try_into().ok());
        let length = length.map(|length| u32::from_be_bytes(length) as usize).ok_or_else(torn)?;
        let end = PREFIX.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(torn)?;
        let message = bytes.split_to(end).slice(PREFIX..);
        messages.push(message);
    }
    Ok(messages)
}

fn decoded<M: prost::Message + Default>(message: &Bytes) -> Result<M, Error> {
    M::decode(message.clone())
        .map_err(|error| Error::new(Code::Internal, format!("an answer cannot be read: {error}")))
}

/// What actions there are.
fn listed(messages: &[Bytes]) -> Result<Value, Error> {
    let types = messages.iter().map(|message| {
        let ActionType { r#type, description } = decoded(message)?;
        Ok(json!({ "type": r#type, "description": description }))
    });
    Ok(json!({ "actions": types.collect::<Result<Vec<_>, Error>>()? }))
}

/// What an action answered: JSON as JSON, text as text, other bytes as base64.
fn results(messages: &[Bytes]) -> Result<Value, Error> {
    let results = messages.iter().map(|message| {
        let arrow_flight::Result { body } = decoded(message)?;
        Ok(match serde_json::from_slice::<Value>(&body) {
            Ok(value) => value,
            Err(_) => match std::str::from_utf8(&body) {
                Ok(text) => Value::String(text.to_owned()),
                Err(_) => json!({ "base64": STANDARD.encode(&body) }),
            },
        })
    });
    Ok(json!({ "results": results.collect::<Result<Vec<_>, Error>>()? }))
}

fn told(error: &Error) -> Value {
    let mut told = json!({ "code": error.code().as_str(), "message": error.message() });
    if let Some(after) = error.retry_after() {
        told["retry_after_ms"] = json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }
    json!({ "error": told })
}

fn refusal(error: &Error) -> Response<Full<Bytes>> {
    with(http_status(error.code()), &told(error))
}

fn with(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{value}\n").into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
