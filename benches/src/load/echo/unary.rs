//! A gRPC service as it is usually written: one unary call for each message, over one
//! connection, with tonic's own settings.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::Caller;
use crate::error::{Error, Result};

/// The limit of a message that both sides set: more than is measured.
const LIMIT: usize = 16 << 20;

/// What is sent, and comes back.
#[derive(Clone, PartialEq, prost::Message)]
struct Echo {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

type Codec = ProstCodec<Echo, Echo>;

/// Answers every call with what it carries.
#[derive(Clone, Debug)]
struct Service;

impl NamedService for Service {
    const NAME: &'static str = "sheaf.bench.Echo";
}

impl UnaryService<Echo> for Service {
    type Response = Echo;
    type Future = BoxFuture<'static, Result<Response<Echo>, Status>>;

    fn call(&mut self, request: Request<Echo>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let grpc = tonic::server::Grpc::new(Codec::default());
            let mut grpc = grpc.max_decoding_message_size(LIMIT);
            Ok(grpc.unary(Service, request).await)
        })
    }
}

/// Its address, and what serves until it is dropped.
pub(super) async fn serve() -> Result<(String, impl Future<Output = Result<()>> + Send)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(Service).serve_with_incoming(incoming);
    let serving = async { serving.await.map_err(|error| Error::Message(error.to_string())) };
    Ok((format!("grpc://{address}"), serving))
}

/// A client over one connection.
#[derive(Clone, Debug)]
pub(super) struct Client(Channel);

pub(super) async fn connect(server: &str) -> Result<Client> {
    let failed = |error: tonic::transport::Error| {
        Error::Message(format!("cannot connect to {server}: {error}"))
    };
    let uri = server.replace("grpc://", "http://");
    let endpoint = Channel::from_shared(uri)
        .map_err(|error| Error::Message(format!("{server}: {error}")))?
        .tcp_nodelay(true);
    Ok(Client(endpoint.connect().await.map_err(failed)?))
}

impl Caller for Client {
    fn call(&self, message: Bytes) -> BoxFuture<'_, Result<()>> {
        let channel = self.0.clone();
        Box::pin(async move {
            let refused = |status: String| Error::Message(format!("a call failed: {status}"));
            let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(LIMIT);
            grpc.ready().await.map_err(|error| refused(error.to_string()))?;
            let (sent, path) = (message.len(), PathAndQuery::from_static("/sheaf.bench.Echo/Call"));
            let request = Request::new(Echo { payload: message });
            let answer = grpc.unary(request, path, Codec::default()).await;
            let answer = answer.map_err(|status| refused(status.to_string()))?.into_inner();
            let back = answer.payload.len();
            if back == sent {
                return Ok(());
            }
            Err(Error::Message(format!("{back} of {sent} bytes came back")))
        })
    }
}
