//! The way to the node that leads.

use std::sync::Arc;

use sheaf_coordinator::{Coordinator, Error};
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_retry::{Code, RetryPolicy, SharedClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};

use crate::types::{Member, NodeId};

/// Finds the coordinator of another node, for calls that only the leader does.
///
/// 1. What it answers does a call on that node or refuses it: it does not pass the
///    call on. Two nodes that each take the other for the leader would go on for ever.
/// 2. It does not retry: who leads may be another node by then.
/// 3. `attempt` counts from 1: where a node has several addresses, another one may be
///    tried each time.
pub trait Forward: Send + Sync + 'static {
    /// The coordinator of that node.
    ///
    /// # Errors
    /// `Invalid` for an address that is none.
    fn to(
        &self,
        node: NodeId,
        member: &Member,
        attempt: u32,
    ) -> Result<Arc<dyn Coordinator>, Error>;
}

/// Forwards over gRPC, to the port on which the node is a member. Calls carry the
/// header `sheaf-forwarded`, by which
/// [`CoordinatorService::with_last_hop`](sheaf_rpc::CoordinatorService::with_last_hop)
/// knows them.
#[derive(Debug)]
pub struct RpcForward {
    pool: ChannelPool,
    options: RpcOptions,
    clock: SharedClock,
    is_tls: bool,
}

impl RpcForward {
    /// Connects as `client` says. Connections are shared and made when needed; 10 s is
    /// the deadline of one attempt, a claim's wait not counted.
    pub fn new(client: ClientConfig, clock: SharedClock) -> Self {
        let client = ClientConfig { is_forwarding: true, ..client };
        let pool = ChannelPool::new(client, Arc::clone(&clock));
        let options = RpcOptions { retry: RetryPolicy::none(), ..RpcOptions::default() };
        RpcForward { pool, options, clock, is_tls: false }
    }

    /// Members whose addresses name no scheme are called over TLS.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.is_tls = true;
        self
    }

    /// With another deadline for one attempt.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Duration) -> Self {
        self.options.deadline = deadline;
        self
    }
}

impl Forward for RpcForward {
    fn to(
        &self,
        node: NodeId,
        member: &Member,
        attempt: u32,
    ) -> Result<Arc<dyn Coordinator>, Error> {
        let endpoints = &member.endpoints;
        let at = (attempt.saturating_sub(1) as usize).checked_rem(endpoints.len());
        let Some(endpoint) = at.and_then(|at| endpoints.get(at)) else {
            let problem = format!("of node {node} are none");
            return Err(Error::Invalid { field: "endpoints", problem });
        };
        let scheme = if self.is_tls && !endpoint.contains("://") { "grpc+tls://" } else { "" };
        let target = format!("{scheme}{endpoint}").parse().map_err(|error| Error::Backend {
            operation: format!("pass a call on to node {node} at {endpoint:?}"),
            code: Code::InvalidArgument,
            source: Some(Box::new(error)),
        })?;
        let (pool, options) = (self.pool.clone(), self.options.clone());
        Ok(Arc::new(RpcCoordinator::new(pool, target, options, Arc::clone(&self.clock))))
    }
}
