//! What happens to every call of a port, whichever service it is for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::Limited;
use prost::Message as _;
use sheaf_retry::{Code, Retryable as _};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code as Grpc, Status};
use tower::Service as _;

use super::body::{CallBody, RequestBody};
use super::deadline;
use super::gate::{CallGuard, Gate, Methods, is_background};
use crate::caller::Caller;
use crate::error::{Error, invalid};
use crate::limits::Limits;
use crate::middleware::AnswerHeaders;
use crate::plain::{FLIGHT_SERVICE, FRAMING_BYTES, MAX_HANDSHAKE};
use crate::router::FlightRouter;
use crate::security::Grant;
use crate::status::{CODE_TRAILER, inbound};
use crate::wire::{self, Data, Sending};

/// Bytes of a request that is a descriptor, a ticket, criteria, or the name of a
/// service; the router allows less.
const MAX_REQUEST: usize = 64 << 10;

/// Admits, counts and contains calls on their way to the routes.
#[derive(Clone)]
pub(super) struct CallService {
    routes: Routes,
    /// Answers the calls that move data; without it the routes do.
    data: Option<FlightRouter>,
    gate: Arc<Gate>,
}

impl CallService {
    pub(super) fn new(routes: Routes, data: Option<FlightRouter>, gate: Arc<Gate>) -> Self {
        CallService { routes, data, gate }
    }

    /// The answer to a call.
    pub(super) fn run(self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.let_in(request))
    }

    /// Lets in who may call.
    async fn let_in(self, mut request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(|info| info.remote_addr);
        let handshake = self.gate.handshake(&path, request.headers());
        let grant = match self.gate.authorize(&path, request.headers_mut(), peer) {
            Ok(grant) => grant,
            Err(refusal) => return refuse(refusal),
        };
        if let Some(handshake) = handshake {
            request.extensions_mut().insert(handshake);
            // Nobody knows yet who it is.
            request = request.map(|body| Body::new(Limited::new(body, MAX_HANDSHAKE)));
        }
        let mut headers = AnswerHeaders::default();
        let mut response = self.admitted(&path, peer, grant, request, &mut headers).await;
        headers.put_on(response.headers_mut());
        response
    }

    /// Counts the call and answers it.
    async fn admitted(
        mut self,
        path: &str,
        peer: Option<SocketAddr>,
        grant: Grant,
        mut request: Request<Body>,
        headers: &mut AnswerHeaders,
    ) -> Response<Body> {
        let (mut guard, caller) = match self.gate.admit(path, request.headers(), peer, &grant) {
            Ok(admitted) => admitted,
            Err(refusal) => return refuse(refusal),
        };
        if let Err(refusal) = guard.count(request.headers()).await {
            caller.refused_at_all(&refusal);
            return refuse(refusal);
        }
        request.extensions_mut().insert(caller.clone());
        let wait = deadline::of(request.headers());
        let request = self.watch(request);
        let end = End { cut: self.gate.cut_token(), caller };
        let clock = Arc::clone(&self.gate.core.clock);
        let over = async move {
            match wait {
                Some(wait) => clock.sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let answer = AssertUnwindSafe(self.answer(path, request, headers)).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            error = end.clone().come() => {
                guard.end(error.code().as_str());
                return refuse(error);
            }
            () = over => {
                guard.end(Code::DeadlineExceeded.as_str());
                let text = "the time that the client waits is over, and its answer did not begin";
                return refuse(Error::new(Code::DeadlineExceeded, text));
            }
        };
        let response = match answer {
            Ok(Ok(response)) => self.coded(response),
            Err(panic) => return refuse(guard.panicked(panic.as_ref())),
        };
        if let Some(code) = ended(response.headers()) {
            guard.end(code);
        }
        let is_ours = Data::of(path).is_some() && self.data.is_some();
        let sending = (!is_ours).then(|| Sending::new(self.gate.core.memory.budget()));
        response.map(|body| Body::new(CallBody::new(body, guard, end, sending)))
    }

    async fn answer(
        &mut self,
        path: &str,
        request: Request<Body>,
        headers: &mut AnswerHeaders,
    ) -> Result<Response<Body>, Infallible> {
        if let Err(refusal) = self.gate.begin(path, &request, headers) {
            if let Some(caller) = request.extensions().get::<Caller>() {
                caller.refused_at_all(&refusal);
            }
            return Ok(refuse(refusal));
        }
        match (Data::of(path), &self.data) {
            (Some(call), Some(router)) => Ok(wire::serve(router, call, request).await),
            _ => self.routes.call(request).await,
        }
    }

    /// gRPC refuses by itself what it cannot read, such as a call over the limit
    /// of a message: that is counted and has a code of ours too.
    fn coded(&self, response: Response<Body>) -> Response<Body> {
        if response.headers().contains_key(CODE_TRAILER) {
            return response;
        }
        let core = &self.gate.core;
        match Status::from_header_map(response.headers()) {
            Some(status) if matches!(status.code(), Grpc::OutOfRange | Grpc::Internal) => {
                if status.code() == Grpc::OutOfRange {
                    core.metrics.rejected("message");
                }
                refuse(inbound(status, core.limits.max_message_bytes))
            }
            _ => response,
        }
    }

    /// A client that owes bytes may not be silent for ever; in an exchange and in
    /// streams to other services it may, since there the server can be the one
    /// who talks.
    fn watch(&self, request: Request<Body>) -> Request<Body> {
        let path = request.uri().path().trim_start_matches('/');
        let core = Arc::clone(&self.gate.core);
        let (limit, told) = max_request(path, &core.limits);
        let patience = match path.strip_prefix(FLIGHT_SERVICE) {
            Some("/DoExchange") => None,
            Some(_) => Some(core.limits.put_idle_timeout),
            None => self.gate.is_unary(path).then_some(core.limits.put_idle_timeout),
        };
        let is_ours = Data::of(request.uri().path()).is_some() && self.data.is_some();
        request.map(|body| {
            let body = RequestBody::new(body, core, patience);
            Body::new(if is_ours { body } else { body.counted(limit, told) })
        })
    }
}

/// Bytes of one message of a request that gRPC's own codec reads. Decoded it
/// may take a dozen times as much, and nobody has looked at rights yet. Also
/// how the limit is told.
fn max_request(path: &str, limits: &Limits) -> (usize, String) {
    let action = limits.max_action_bytes;
    let limit = match path.strip_prefix(FLIGHT_SERVICE) {
        Some("/DoAction") => {
            let told = format!("max_action_bytes is {action}");
            return (action.saturating_add(FRAMING_BYTES), told);
        }
        // The handlers of these see to their limits.
        Some("/DoPut" | "/DoExchange" | "/Handshake") => usize::MAX,
        Some(_) => MAX_REQUEST,
        None if is_background(path) => MAX_REQUEST,
        None => usize::MAX,
    };
    (limit, format!("at most {limit} are allowed in this call"))
}

/// An answer of nothing but an error.
fn refuse(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}

/// What ends a call before its time.
#[derive(Clone)]
pub(super) struct End {
    cut: CancellationToken,
    caller: Caller,
}

impl End {
    /// Why it ends, once it does.
    pub(super) async fn come(self) -> Error {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Error::new(
                Code::Draining,
                "the server is shutting down and did not wait for this call",
            ),
            error = self.caller.lost() => error,
        }
    }
}

/// The code that headers or trailers end a call with.
pub(super) fn ended(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?;
    if status.as_bytes() == b"0" {
        return Some("ok".to_owned());
    }
    // Only words of the closed set become labels.
    let named = headers.get(CODE_TRAILER).and_then(|value| value.to_str().ok()?.parse().ok());
    let code: Code = named.unwrap_or_else(|| {
        Error::from(Status::new(tonic::Code::from_bytes(status.as_bytes()), "")).code()
    });
    Some(code.as_str().to_owned())
}

/// Everything that the descriptors name.
pub(super) fn method_names(sets: &[&[u8]]) -> Result<Methods, Error> {
    let mut names = Methods::new();
    for &set in sets {
        let set = prost_types::FileDescriptorSet::decode(set)
            .map_err(|error| invalid(format!("descriptors of a gRPC service: {error}")))?;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let is_stream = method.client_streaming();
                    let (service, method) = (service.name(), method.name());
                    names.insert(format!("{}.{service}/{method}", file.package()), is_stream);
                }
            }
        }
    }
    Ok(names)
}

/// Used by [`CallBody`] to end a call when it panics half-way.
pub(super) fn panic_trailers(
    guard: &mut CallGuard,
    panic: &(dyn std::any::Any + Send),
) -> HeaderMap {
    trailers(guard.panicked(panic))
}

/// How a call ended that had begun well, as its trailers.
pub(crate) fn trailers(status: impl Into<Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(broken) = status.into().add_header(&mut trailers) {
        tracing::error!(%broken, "an error does not fit into trailers");
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_has_a_word_of_the_closed_set() {
        let with = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        assert_eq!(ended(&with(&[])), None);
        assert_eq!(ended(&with(&[("grpc-status", "0")])).unwrap(), "ok");
        assert_eq!(ended(&with(&[("grpc-status", "5")])).unwrap(), "not_found");
        let named = with(&[("grpc-status", "9"), (CODE_TRAILER, "lease_lost")]);
        assert_eq!(ended(&named).unwrap(), "lease_lost");
        let made_up = with(&[("grpc-status", "9"), (CODE_TRAILER, "made up")]);
        assert_eq!(ended(&made_up).unwrap(), "failed_precondition");
    }

    #[test]
    fn flights_methods_are_known_by_their_descriptors() {
        let names = method_names(&[super::super::FLIGHT_DESCRIPTORS]).unwrap();
        let is_stream = |method: &str| names.get(&format!("{FLIGHT_SERVICE}/{method}"));
        assert_eq!(is_stream("PollFlightInfo"), Some(&false), "{names:?}");
        assert_eq!(is_stream("DoPut"), Some(&true), "{names:?}");
        assert!(method_names(&[b"\xff"]).is_err());
    }
}
