//! A channel whose calls carry a token.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::options::FORWARDED;
use super::security::Bearer;

/// The way to one server, for clients of any gRPC service: secured as its pool
/// is. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Channel {
    inner: tonic::transport::Channel,
    bearer: Arc<Bearer>,
    is_forwarding: bool,
}

impl Channel {
    pub(super) fn new(
        inner: tonic::transport::Channel,
        bearer: Arc<Bearer>,
        is_forwarding: bool,
    ) -> Self {
        Channel { inner, bearer, is_forwarding }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Either<
        tonic::transport::channel::ResponseFuture,
        Ready<Result<Response<Body>, tonic::transport::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if self.is_forwarding {
            request.headers_mut().insert(FORWARDED, HeaderValue::from_static("true"));
        }
        match self.bearer.header() {
            Ok(Some(header)) => {
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            Ok(None) => {}
            Err(error) => return Either::Right(ready(Ok(Status::from(error).into_http()))),
        }
        Either::Left(self.inner.call(request))
    }
}
