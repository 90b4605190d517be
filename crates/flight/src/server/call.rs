//! What happens to every call of a port, whichever service it is for.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use prost::Message as _;
use sheaf_retry::{Code, Retryable as _};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code as Grpc, Status};
use tower::Service;

use super::body::{CallBody, RequestBody};
use super::gate::{CallGuard, Gate};
use crate::caller::Caller;
use crate::error::{Error, invalid};
use crate::plain::FLIGHT_SERVICE;
use crate::router::FlightRouter;
use crate::status::{CODE_TRAILER, inbound};
use crate::wire::{self, Data};

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

    async fn run(mut self, mut request: Request<Body>) -> Response<Body> {
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(|info| info.remote_addr);
        let path = request.uri().path().to_owned();
        let grant = match self.gate.authorize(&path, request.headers_mut(), peer) {
            Ok(grant) => grant,
            Err(refusal) => return refuse(refusal),
        };
        let (mut guard, caller) = match self.gate.admit(&path, peer, &grant) {
            Ok(admitted) => admitted,
            Err(refusal) => return refuse(refusal),
        };
        request.extensions_mut().insert(caller.clone());
        let request = self.watch(request);
        let end = End { cut: self.gate.cut_token(), caller };
        let answer = AssertUnwindSafe(self.answer(&path, request)).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            error = end.clone().come() => {
                guard.end(error.code().as_str());
                return refuse(error);
            }
        };
        let response = match answer {
            Ok(Ok(response)) => self.coded(response),
            Err(panic) => return refuse(guard.panicked(panic.as_ref())),
        };
        if let Some(code) = ended(response.headers()) {
            guard.end(code);
        }
        response.map(|body| Body::new(CallBody::new(body, guard, end)))
    }

    async fn answer(
        &mut self,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
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

    /// A client that owes bytes may not be silent for ever; in an exchange it
    /// may, since there the server can be the one who talks.
    fn watch(&self, request: Request<Body>) -> Request<Body> {
        let path = request.uri().path().trim_start_matches('/');
        let core = Arc::clone(&self.gate.core);
        let patience = match path.strip_prefix(FLIGHT_SERVICE) {
            Some(method) if method != "/DoExchange" => Some(core.limits.put_idle_timeout),
            _ => None,
        };
        request.map(|body| Body::new(RequestBody::new(body, core, patience)))
    }
}

impl Service<Request<Body>> for CallService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let ready = self.clone();
        Box::pin(async move { Ok(ready.run(request).await) })
    }
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

/// `SERVICE/METHOD` of everything that the descriptors name.
pub(super) fn method_names(sets: &[&[u8]]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for &set in sets {
        let set = prost_types::FileDescriptorSet::decode(set)
            .map_err(|error| invalid(format!("descriptors of a gRPC service: {error}")))?;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let (service, method) = (service.name(), method.name());
                    names.push(format!("{}.{service}/{method}", file.package()));
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
        assert!(names.contains(&format!("{FLIGHT_SERVICE}/PollFlightInfo")), "{names:?}");
        assert!(method_names(&[b"\xff"]).is_err());
    }
}
