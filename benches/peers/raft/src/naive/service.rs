//! What a node answers: a message of openraft, or a request of a client, each a call.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{Machine, Node, answer};
use crate::Result;

pub const APPEND: &str = "/naive.Raft/Append";
pub const VOTE: &str = "/naive.Raft/Vote";
pub const PRE_VOTE: &str = "/naive.Raft/PreVote";
pub const ASK: &str = "/naive.Raft/Ask";

/// What every call carries, either way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
}

#[derive(Clone)]
struct Service {
    node: Node,
    machine: Machine,
}

impl NamedService for Service {
    const NAME: &'static str = "naive.Raft";
}

impl tonic::codegen::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = Call { service: self.clone(), path: request.uri().path().to_owned() };
        Box::pin(async move {
            let codec = ProstCodec::<Payload, Payload>::default();
            Ok(tonic::server::Grpc::new(codec).unary(call, request).await)
        })
    }
}

struct Call {
    service: Service,
    path: String,
}

impl UnaryService<Payload> for Call {
    type Response = Payload;
    type Future = BoxFuture<'static, std::result::Result<Response<Payload>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        let (service, path) = (self.service.clone(), self.path.clone());
        Box::pin(async move {
            let payload = request.into_inner().payload;
            let done = service.answer(&path, &payload).await;
            let payload = done.map_err(|error| Status::invalid_argument(error.to_string()))?;
            Ok(Response::new(Payload { payload: payload.into() }))
        })
    }
}

impl Service {
    async fn answer(&self, path: &str, payload: &[u8]) -> Result<Vec<u8>> {
        match path {
            APPEND => encoded(self.node.append_entries(postcard::from_bytes(payload)?).await),
            VOTE => encoded(self.node.vote(postcard::from_bytes(payload)?).await),
            PRE_VOTE => encoded(self.node.pre_vote(postcard::from_bytes(payload)?).await),
            ASK => {
                let asked = postcard::from_bytes(payload)?;
                encoded(answer(&self.node, &self.machine, asked).await)
            }
            other => Err(format!("no call is named {other}").into()),
        }
    }
}

fn encoded<T: Serialize>(done: std::result::Result<T, impl std::fmt::Display>) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(&done.map_err(|error| error.to_string()))?)
}

pub async fn serve(address: String, node: Node, machine: Machine) -> Result<()> {
    let incoming = TcpIncoming::from(TcpListener::bind(&address).await?).with_nodelay(Some(true));
    let service = Service { node, machine };
    Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
}
