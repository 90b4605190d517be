//! Linearizable reads: the leader asks a majority whether it still leads, once for all who wait.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{LinearizableReadError, RaftError};
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot};

use super::forward::Forward;
use super::observed::{self, Observed};
use super::proposals::not_leader;
use crate::replica::Error;
use crate::types::{NodeId, Types};

/// Most reads that wait for one round.
const MAX_READS: usize = 65_536;

/// Where reads wait for the next round.
pub(super) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<Result<u64, Error>>>,
}

impl Reads {
    /// The queue, and the task that does one round after the other.
    pub(super) fn start<R, S>(
        raft: Raft<Types<R>, S>,
        id: NodeId,
        forward: Arc<Forward<R>>,
        within: Duration,
    ) -> Self
    where
        R: AsyncRuntime,
        S: RaftStateMachine<Types<R>>,
    {
        let (queue, waiting) = mpsc::channel(MAX_READS);
        drop(R::spawn(rounds(raft, (id, within), forward, waiting)));
        Reads { queue }
    }

    /// The index that a read which begins now has to wait for.
    pub(super) async fn index(&self, observed: &Observed) -> Result<u64, Error> {
        if let Some(error) = observed.stopped() {
            return Err(error);
        }
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(answer) {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(observed.gone())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let limit = MAX_READS as u64;
                Err(Error::Full { what: "reads", actual: limit + 1, limit })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(observed.gone()),
        }
    }
}

/// One round for all that wait when it begins; those that come meanwhile have the next, as the
/// round may have asked before they came.
async fn rounds<R, S>(
    raft: Raft<Types<R>, S>,
    (id, within): (NodeId, Duration),
    forward: Arc<Forward<R>>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Result<u64, Error>>>,
) where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    let mut round = Vec::new();
    while waiting.recv_many(&mut round, MAX_READS).await > 0 {
        round.retain(|reader| !reader.is_closed());
        if round.is_empty() {
            continue;
        }
        // One round that nobody answers must not hold up those after it.
        let own = R::timeout(within, own_index(&raft)).await;
        let outcome = match own.unwrap_or(Err(Error::NotLeader { leader: None })) {
            Err(Error::NotLeader { leader: Some((leader, member)) }) if leader != id => {
                forward.read_index(leader, member).await
            }
            outcome => outcome,
        };
        for reader in round.drain(..) {
            // Whoever gave up is not there.
            reader.send(outcome.clone()).ok();
        }
    }
}

/// The index, where this node leads: a majority answered that it does, after it was asked.
pub(super) async fn own_index<R, S>(raft: &Raft<Types<R>, S>) -> Result<u64, Error>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(not_leader(to)),
        // No majority answers: it does not lead as far as anybody can tell.
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            Err(Error::NotLeader { leader: None })
        }
        Err(RaftError::Fatal(error)) => Err(observed::fatal(&error)),
    }
}
