//! Commands on their way into the log: those that wait go together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use openraft::error::{ClientWriteError, ForwardToLeader};
use openraft::raft::WriteResult;
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft};
use tokio::sync::{mpsc, oneshot};

use super::observed::{self, Observed};
use crate::config::RaftClusterConfig;
use crate::network::wire::{BYTES, COMMANDS};
use crate::replica::Error;
use crate::types::{Command, NodeId, Types};

/// Most commands that go to the engine with one call.
const BATCH: usize = 1_024;

/// One command that waits.
struct Proposal {
    command: Bytes,
    answer: oneshot::Sender<Result<Bytes, Error>>,
    /// Its place among those that wait; given back when it is answered.
    _place: Place,
}

/// How much waits.
#[derive(Debug)]
struct Load {
    commands: AtomicU64,
    bytes: AtomicU64,
}

/// The part of one command in it.
struct Place {
    load: Arc<Load>,
    bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.commands.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where commands wait until the engine takes them.
#[derive(Clone)]
pub(super) struct Proposals {
    queue: mpsc::Sender<Proposal>,
    load: Arc<Load>,
    max_command_bytes: u64,
    max_commands: u64,
    max_bytes: u64,
}

impl Proposals {
    /// The queue, and the task that empties it into the engine.
    pub(super) fn start<R, S>(raft: Raft<Types<R>, S>, config: &RaftClusterConfig) -> Self
    where
        R: AsyncRuntime,
        S: RaftStateMachine<Types<R>>,
    {
        let commands = usize::try_from(config.max_waiting_commands).unwrap_or(usize::MAX);
        let (queue, waiting) = mpsc::channel(commands.min(tokio::sync::Semaphore::MAX_PERMITS));
        drop(R::spawn(write(raft, waiting)));
        let load = Arc::new(Load { commands: AtomicU64::new(0), bytes: AtomicU64::new(0) });
        Proposals {
            queue,
            load,
            max_command_bytes: config.max_command_bytes,
            max_commands: config.max_waiting_commands,
            max_bytes: config.max_waiting_bytes,
        }
    }

    /// Proposes a command at this node.
    pub(super) async fn propose(
        &self,
        command: Bytes,
        observed: &Observed,
    ) -> Result<Bytes, Error> {
        let actual = command.len() as u64;
        let limit = self.max_command_bytes;
        if actual > limit {
            return Err(Error::TooLarge { actual, limit });
        }
        if let Some(error) = observed.stopped() {
            return Err(error);
        }
        let place = self.place(actual)?;
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal { command, answer, _place: place };
        match self.queue.try_send(proposal) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let (actual, limit) = (self.max_commands.saturating_add(1), self.max_commands);
                return Err(Error::Full { what: COMMANDS, actual, limit });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(observed.gone()),
        }
        // The task always answers, unless it is torn down with its runtime.
        answered.await.unwrap_or_else(|_| Err(lost(&observed.gone())))
    }

    /// Takes a place among those that wait.
    fn place(&self, bytes: u64) -> Result<Place, Error> {
        let load = &self.load;
        let commands = load.commands.fetch_add(1, Ordering::Relaxed) + 1;
        let all = load.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let place = Place { load: Arc::clone(load), bytes };
        if commands > self.max_commands {
            return Err(Error::Full { what: COMMANDS, actual: commands, limit: self.max_commands });
        }
        if all > self.max_bytes {
            return Err(Error::Full { what: BYTES, actual: all, limit: self.max_bytes });
        }
        Ok(place)
    }
}

/// What was proposed to a node that then ended.
fn lost(error: &Error) -> Error {
    Error::Unknown { problem: error.to_string() }
}

/// Hands what waits to the engine, all at once; the engine writes what it has with one flush.
async fn write<R, S>(raft: Raft<Types<R>, S>, mut waiting: mpsc::Receiver<Proposal>)
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let commands: Vec<_> =
            batch.iter().map(|proposal| Command(proposal.command.clone())).collect();
        let proposals = std::mem::take(&mut batch);
        match raft.client_write_many(commands).await {
            Ok(answers) => drop(R::spawn(answer::<R>(proposals, answers))),
            Err(error) => {
                let error = observed::fatal(&error);
                for proposal in proposals {
                    // Whoever gave up is not there.
                    proposal.answer.send(Err(error.clone())).ok();
                }
            }
        }
    }
}

type Answers<R> = futures::stream::BoxStream<
    'static,
    Result<WriteResult<Types<R>>, openraft::error::Fatal<Types<R>>>,
>;

/// Tells each proposer what became of its command.
async fn answer<R: AsyncRuntime>(proposals: Vec<Proposal>, mut answers: Answers<R>) {
    let mut end = None;
    for proposal in proposals {
        let outcome = match &end {
            None => match answers.next().await {
                Some(Ok(result)) => read(result),
                Some(Err(error)) => Err(end.insert(lost(&observed::fatal(&error))).clone()),
                None => Err(end.insert(lost(&observed::closed())).clone()),
            },
            Some(error) => Err(error.clone()),
        };
        proposal.answer.send(outcome).ok();
    }
}

fn read<R: AsyncRuntime>(result: WriteResult<Types<R>>) -> Result<Bytes, Error> {
    match result {
        Ok(written) => Ok(written.response.0),
        Err(ClientWriteError::ForwardToLeader(to)) => Err(not_leader(to)),
        // It is in no log of this leader any more, and may be in one of the next.
        Err(error) => Err(Error::Unknown { problem: error.to_string() }),
    }
}

/// Who leads instead, as the engine knows it.
pub(super) fn not_leader<R: AsyncRuntime>(to: ForwardToLeader<Types<R>>) -> Error {
    let leader: Option<(NodeId, _)> = to.leader_id.zip(to.leader_node);
    Error::NotLeader { leader }
}
