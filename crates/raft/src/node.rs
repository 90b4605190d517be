//! One node of a cluster: proposes, reads, and changes who belongs to it.

mod builder;
mod change;
mod disk;
mod forward;
mod founding;
mod metrics;
mod observed;
mod proposals;
mod reads;
mod server;
mod size;
mod status;
mod waiting;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft};
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::watch;

pub use self::builder::{Parts, StartError};
pub use self::change::ChangeError;
use self::forward::Forward;
use self::founding::Intent;
use self::observed::Observed;
use self::proposals::Proposals;
use self::reads::Reads;
pub use self::server::{RaftServer, open};
pub use self::size::LOG_BYTES;
pub use self::status::{MemberStatus, Role, Status};
use crate::apply::Machine;
use crate::config::RaftClusterConfig;
use crate::network::{Links, Service, Transit, Troubles};
use crate::replica::{Error, Leadership, Replica};
use crate::types::{NodeId, Types};

/// The state machine of a node, to those who look at it while the engine drives it.
pub trait Shared<M>: Send + Sync + 'static {
    /// Looks at the state as it is; commands wait meanwhile.
    fn with(&self, look: &mut dyn FnMut(&mut M));

    /// Whether a node of this id ever was a member, as far as the state goes back.
    fn knew(&self, _: NodeId) -> bool {
        false
    }
}

/// What drives a state machine for the engine, with what a node wants of it besides.
pub trait Driver<M, R: AsyncRuntime>:
    RaftStateMachine<Types<R>, SnapshotData = <Self::Transit as Transit>::Data>
{
    /// How its snapshots travel.
    type Transit: Transit;

    /// The state, for looking at it.
    fn shared(&self) -> Arc<dyn Shared<M>>;

    /// How its snapshots travel.
    fn transit(&self) -> Arc<Self::Transit>;
}

/// One node of a cluster. Cloning gives another handle to the same node.
///
/// 1. A command that was answered is applied on every node, once, at the same place.
/// 2. A command that was refused is applied on none, except after [`Error::Unknown`].
/// 3. What waits at a node is limited; more is refused.
///
/// The node lives until [`shutdown`](Self::shutdown), or until its disk fails.
pub struct RaftNode<M, R = TokioRuntime, S = Machine<M, R>>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    inner: Arc<Inner<M, R, S>>,
}

/// What the handles of a node share.
struct Inner<M, R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    config: RaftClusterConfig,
    /// Of this node's log.
    incarnation: u64,
    /// The last entry that its disk had at the start.
    restored: Option<u64>,
    /// The cluster that it is about to found.
    intent: Arc<Intent>,
    raft: Raft<Types<R>, S>,
    machine: Arc<dyn Shared<M>>,
    service: Arc<dyn Service>,
    observed: Arc<Observed>,
    /// Who takes nothing from this node, and why.
    troubles: Arc<Troubles>,
    proposals: Proposals,
    reads: Reads,
    forward: Arc<Forward<R>>,
    links: Arc<dyn Links>,
    /// Removed nodes that this process knows of, which never come back.
    removed: Mutex<BTreeMap<NodeId, u64>>,
}

impl<M, R, S> Clone for RaftNode<M, R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    fn clone(&self) -> Self {
        RaftNode { inner: Arc::clone(&self.inner) }
    }
}

impl<M, R, S> fmt::Debug for RaftNode<M, R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.inner.config;
        f.debug_struct("RaftNode")
            .field("cluster_id", &config.cluster_id)
            .field("node_id", &config.node_id)
            .finish_non_exhaustive()
    }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Which node it is.
    pub fn id(&self) -> NodeId {
        self.inner.config.node_id
    }

    /// What the node was told.
    pub fn config(&self) -> &RaftClusterConfig {
        &self.inner.config
    }

    /// What the node does for the others: whoever carries the links hands messages to it.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.inner.service)
    }

    /// Why the node stopped, where it did.
    pub fn stopped(&self) -> Option<Error> {
        self.inner.observed.stopped()
    }

    /// Waits until some node leads, and tells which.
    ///
    /// # Errors
    /// `Stopped` when this node stops first; cancel it to limit the time.
    pub async fn wait_for_leader(&self) -> Result<NodeId, Error> {
        let mut leadership = self.inner.observed.leadership();
        loop {
            if let Some((leader, _)) = &leadership.borrow_and_update().leader {
                return Ok(*leader);
            }
            if let Some(error) = self.stopped() {
                return Err(error);
            }
            if leadership.changed().await.is_err() {
                return Err(self.inner.observed.gone());
            }
        }
    }

    /// Ends the node: what waits is answered with `Unknown` or `Stopped`, and the log is closed
    /// after its last write.
    pub async fn shutdown(&self) {
        // It fails where the node's task panicked: then it has ended, too.
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(target: "raft", node = self.id(), "the node's task failed: {error}");
        }
        self.inner.observed.stop(observed::closed());
    }
}

#[async_trait]
impl<M, R, S> Replica<M> for RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    async fn propose(&self, command: Bytes) -> Result<Bytes, Error> {
        let inner = &self.inner;
        match inner.proposals.propose(command.clone(), &inner.observed).await {
            Err(Error::NotLeader { leader: Some((id, member)) })
                if inner.config.forward_proposals && id != inner.config.node_id =>
            {
                inner.forward.propose(id, member, command).await
            }
            outcome => outcome,
        }
    }

    async fn read_barrier(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let passing = async {
            let index = inner.reads.index(&inner.observed).await?;
            inner.observed.applied_at_least(index).await
        };
        // Who waits longer is cut off, or far behind: another node can answer.
        let passed = R::timeout(inner.config.patience(), passing).await;
        passed.unwrap_or(Err(Error::NotLeader { leader: None }))
    }

    fn with_machine(&self, look: &mut dyn FnMut(&mut M)) {
        self.inner.machine.with(look);
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.observed.leadership()
    }

    fn restored(&self) -> Option<u64> {
        self.inner.restored
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.inner.observed.applied()
    }
}
