//! A node is put together: log, state machine, links.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{AsyncRuntime, Raft};
use sheaf_retry::{Code, Retryable};

use super::forward::Forward;
use super::founding::{self, Intent};
use super::observed::{self, Observed};
use super::proposals::Proposals;
use super::reads::{self, Reads};
use super::{Driver, Inner, RaftNode};
use crate::config::{Problem, Problems, RaftClusterConfig};
use crate::network::wire::Hello;
use crate::network::{Incoming, Links, Own, Peers, Troubles};
use crate::replica::Error;
use crate::types::Types;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be.
    #[error("the configuration is wrong: {0}")]
    Config(Problems),
    /// What is on disk cannot be read, or the disk fails.
    #[error(transparent)]
    Stopped(Error),
}

impl Retryable for StartError {
    fn code(&self) -> Code {
        match self {
            StartError::Config(problems) => problems.code(),
            StartError::Stopped(error) => error.code(),
        }
    }
}

/// What a node is put together of.
#[derive(Debug)]
pub struct Parts<L, S> {
    /// Where the log is.
    pub log: L,
    /// What drives the state machine.
    pub driver: S,
    /// Tells the log from every other log that this node had or will have; not 0.
    pub incarnation: u64,
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Starts a node on its log and its state, which talks over the links; whoever carries them
    /// hands what comes in to [`service`](RaftNode::service).
    ///
    /// # Errors
    /// `Config` with all that is wrong; `Stopped` where the disk cannot be read.
    pub async fn start<L>(
        config: RaftClusterConfig,
        parts: Parts<L, S>,
        links: Arc<dyn Links>,
    ) -> Result<Self, StartError>
    where
        L: RaftLogStorage<Types<R>>,
    {
        let config = config.validate().map_err(StartError::Config)?;
        let engine = config.engine().map_err(StartError::Config)?;
        let Parts { mut log, mut driver, incarnation } = parts;
        if incarnation == 0 {
            let message = "it is 0; a log has one of its own".to_owned();
            let problem = Problem { field: "incarnation", message };
            return Err(StartError::Config(Problems(vec![problem])));
        }
        let (machine, transit) = (driver.shared(), driver.transit());
        let troubles = Arc::<Troubles>::default();
        let peers =
            Peers::new(&config, Arc::clone(&links), Arc::clone(&transit), Arc::clone(&troubles));
        let stopped = |error| StartError::Stopped(observed::fatal(&error));
        let restored = last(&mut log, &mut driver).await.map_err(unreadable)?;
        let raft =
            Raft::build(config.node_id, engine, peers, log, driver).await.map_err(stopped)?;
        let observed = Observed::new(config.node_id);
        observed::watch(&raft, Arc::clone(&observed));
        let forward = Arc::new(Forward::new(Arc::clone(&links), config.patience()));
        let proposals = Proposals::start(raft.clone(), &config);
        let within = config.patience();
        let reads = Reads::start(raft.clone(), config.node_id, Arc::clone(&forward), within);
        let intent = Arc::default();
        let local = Arc::new(Here {
            raft: raft.clone(),
            observed: Arc::clone(&observed),
            proposals: proposals.clone(),
            is_forwarded_to: config.forward_proposals,
            founders: founding::founders(&config.members()),
            incarnation,
            intent: Arc::clone(&intent),
            runtime: PhantomData,
        });
        let alive = std::time::Duration::from_millis(config.heartbeat_interval_ms);
        let own = Own { id: config.node_id, incarnation, is_new: restored.is_none() };
        let service = Incoming::new(own, raft.clone(), transit, local, alive);
        // Only now may it campaign: everything that it would need is there.
        raft.run();
        let inner = Inner {
            config,
            incarnation,
            restored,
            intent,
            raft,
            machine,
            service: Arc::new(service),
            observed,
            troubles,
            proposals,
            reads,
            forward,
            links,
            removed: Mutex::new(BTreeMap::new()),
        };
        Ok(RaftNode { inner: Arc::new(inner) })
    }
}

/// The last entry that a node has on disk; asked before the engine has log and state, which
/// tells of it only when it runs.
async fn last<L, S, R>(log: &mut L, driver: &mut S) -> Result<Option<u64>, std::io::Error>
where
    L: RaftLogStorage<Types<R>>,
    S: RaftStateMachine<Types<R>>,
    R: AsyncRuntime,
{
    let written = log.get_log_state().await?.last_log_id;
    // Where a snapshot was installed and the process ended before its log was cut, it is ahead.
    let snapshot = driver.get_current_snapshot().await?.and_then(|one| one.meta.last_log_id);
    Ok([written, snapshot].into_iter().flatten().map(|last| last.index).max())
}

fn unreadable(error: std::io::Error) -> StartError {
    StartError::Stopped(Error::Stopped { problem: error.to_string(), code: Code::Io })
}

/// What the node answers the others without asking anybody.
struct Here<R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    raft: Raft<Types<R>, S>,
    observed: Arc<Observed>,
    proposals: Proposals,
    /// Whether others may propose here.
    is_forwarded_to: bool,
    /// A hash of the members that it would found the cluster of.
    founders: u64,
    incarnation: u64,
    intent: Arc<Intent>,
    runtime: PhantomData<fn() -> R>,
}

#[async_trait]
impl<R, S> crate::network::Local for Here<R, S>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    async fn read_index(&self) -> Result<u64, Error> {
        reads::own_index(&self.raft).await
    }

    async fn propose(&self, command: Bytes) -> Result<Bytes, Error> {
        self.proposals.propose(command, &self.observed).await
    }

    fn takes_proposals(&self) -> bool {
        self.is_forwarded_to
    }

    fn stopped(&self) -> Option<Error> {
        self.observed.stopped()
    }

    async fn hello(&self) -> Hello {
        // What the engine tells is empty before it runs, whatever is on disk; one that has ended
        // is not asked.
        drop(self.raft.with_raft_state(|_| ()).await);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Hello {
            term: metrics.current_term,
            last: metrics.last_log_index,
            leader: metrics.current_leader,
            founders: Some(self.founders),
            is_led: metrics.vote.committed,
            incarnation: self.incarnation,
            founding: match metrics.last_log_index {
                None => self.intent.get(),
                Some(_) => Some(founding::founding(metrics.membership_config.nodes())),
            },
        }
    }
}
