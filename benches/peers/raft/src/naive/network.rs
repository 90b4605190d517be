//! One unary call for each message.

use std::future::Future;

use bytes::Bytes;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::service::{APPEND, ASK, PRE_VOTE, Payload, VOTE};
use super::{Asked, TypeConfig};
use crate::Result;

/// A connection to a node.
#[derive(Clone)]
pub struct Client(Channel);

impl Client {
    pub fn to(address: &str) -> Result<Self> {
        Ok(Client(Channel::from_shared(format!("http://{address}"))?.connect_lazy()))
    }

    pub async fn ask(&self, asked: &Asked) -> Result<bool> {
        let answer: std::result::Result<bool, String> = self.call(ASK, asked).await?;
        Ok(answer?)
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<A> {
        let payload = Bytes::from(postcard::to_stdvec(request)?);
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<Payload, Payload>::default();
        let request = Request::new(Payload { payload });
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
        Ok(postcard::from_bytes(&answer.into_inner().payload)?)
    }

    /// A call of openraft's; the answer is the node's, or what it says went wrong.
    async fn message<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> std::result::Result<A, RPCError<TypeConfig>> {
        let answer: Result<std::result::Result<A, String>> = self.call(path, request).await;
        let answer = answer.map_err(|error| Unreachable::from_string(error.to_string()))?;
        Ok(answer.map_err(|error| NetworkError::from_string(error))?)
    }
}

pub struct Network;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, _: u64, node: &BasicNode) -> Client {
        // Addresses are checked when the cluster is made.
        Client::to(&node.addr).expect("an address of the cluster")
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> std::result::Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.message(APPEND, &request).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> std::result::Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.message(VOTE, &request).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> std::result::Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.message(PRE_VOTE, &request).await
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<TypeConfig>,
        _: SnapshotOf<TypeConfig, Vec<u8>>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> std::result::Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let error = AnyError::error("this peer makes no snapshots");
        Err(StreamingError::Unreachable(Unreachable::new(&error)))
    }
}
