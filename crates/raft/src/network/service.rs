//! What a node does for the others: every message is checked, then the engine has it.

mod append;
mod owner;
mod snapshot;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use openraft::error::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest,
};
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft};
use sheaf_retry::Code;

pub(crate) use self::owner::Own;
use self::owner::Owner;
use super::wire::{self, AppendRequest, Appended, Hello, Transfer, Transferred};
use super::{Broken, Message, Refusal, Service, Topic, Transit};
use crate::replica::Error;
use crate::types::{NodeId, Types};

/// What the node itself answers, without its engine.
#[async_trait]
pub(crate) trait Local: Send + Sync + 'static {
    /// The index that a read waits for; this node leads, or says who does.
    async fn read_index(&self) -> Result<u64, Error>;

    /// Proposes a command here, and only here.
    async fn propose(&self, command: bytes::Bytes) -> Result<bytes::Bytes, Error>;

    /// Whether other nodes may propose here.
    fn takes_proposals(&self) -> bool;

    /// Why this node has stopped, where it has.
    fn stopped(&self) -> Option<Error>;

    /// What this node has.
    async fn hello(&self) -> Hello;
}

/// Everything that comes in for one node.
pub(crate) struct Incoming<R, S, T>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>>,
{
    id: NodeId,
    raft: Raft<Types<R>, S>,
    owner: Owner<R, S>,
    transit: Arc<T>,
    local: Arc<dyn Local>,
    slot: Arc<snapshot::Slot>,
    /// How often the sender of a snapshot hears that it is being read in.
    alive: std::time::Duration,
}

impl<R, S, T> Incoming<R, S, T>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>, SnapshotData = T::Data>,
    T: Transit,
{
    pub(crate) fn new(
        own: Own,
        raft: Raft<Types<R>, S>,
        transit: Arc<T>,
        local: Arc<dyn Local>,
        alive: std::time::Duration,
    ) -> Self {
        let (id, owner) = (own.id, Owner::new(own, raft.clone()));
        Incoming { id, raft, owner, transit, local, slot: Arc::default(), alive }
    }

    async fn append(&self, from: NodeId, message: Message) -> Result<Message, Refusal> {
        let request = wire::read_append_request(from, message)?;
        self.owner.check(from, request.incarnation)?;
        let (sequence, previous, last) = (request.sequence, request.previous, request.last());
        let appended = match self.raft.append_entries(to_engine(request)).await {
            Ok(AppendEntriesResponse::Success) => Appended::Matched(last),
            Ok(AppendEntriesResponse::PartialSuccess(matched)) => Appended::Matched(matched),
            Ok(AppendEntriesResponse::HigherVote(vote)) => Appended::Higher(vote),
            Ok(AppendEntriesResponse::Conflict) => match previous {
                Some(previous) => Appended::Conflict(previous),
                None => return Err(Refusal::malformed("nothing comes before the first entry")),
            },
            Err(error) => return Err(stopped(&error)),
        };
        Ok(wire::append_reply(sequence, &appended))
    }

    /// An engine that has ended is not asked: it would log every question.
    fn running(&self) -> Result<(), Refusal> {
        let stopped =
            |error: Error| Refusal { code: Code::Unavailable, problem: error.to_string() };
        self.local.stopped().map(stopped).map_or(Ok(()), Err)
    }

    async fn vote(
        &self,
        from: NodeId,
        topic: Topic,
        message: &Message,
    ) -> Result<Message, Refusal> {
        let asked = wire::read_vote(from, message)?;
        self.owner.check(from, asked.incarnation)?;
        if self.owner.is_empty() {
            return Err(Refusal {
                code: Code::Unavailable,
                problem: format!(
                    "node {} has no log, and gives no vote before it founds the cluster or has \
                     heard of a leader",
                    self.id
                ),
            });
        }
        let request = VoteRequest {
            vote: asked.vote,
            last_log_id: asked.last,
            leadership_transfer: asked.is_transfer,
        };
        let answer = match topic {
            Topic::PreVote => self.raft.pre_vote(request).await,
            _ => self.raft.vote(request).await,
        };
        let answer = answer.map_err(|error| stopped(&error))?;
        Ok(wire::vote_reply(&wire::VoteReply {
            vote: answer.vote,
            is_granted: answer.vote_granted,
            last: answer.last_log_id,
        }))
    }

    async fn transfer(&self, from: NodeId, message: &Message) -> Result<Message, Refusal> {
        let Transfer { leader, to, last, incarnation } = wire::read_transfer(from, message)?;
        self.owner.check(from, incarnation)?;
        let request = TransferLeaderRequest::new(leader, to, last);
        let transferred = match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Transferred::Taken,
            Ok(Err(TransferLeaderError::VoteChanged { actual, .. })) => {
                Transferred::VoteChanged(actual)
            }
            Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => {
                Transferred::NotFlushed { expected, actual }
            }
            Err(error) => return Err(stopped_for(&error)),
        };
        Ok(wire::transfer_reply(&transferred))
    }

    async fn propose(&self, mut message: Message) -> Result<Message, Refusal> {
        if !self.local.takes_proposals() {
            let problem = "commands of other nodes are not taken: forward_proposals is off here";
            return Err(Refusal { code: Code::PermissionDenied, problem: problem.to_owned() });
        }
        let count = message.payloads.len();
        let Some(command) = message.payloads.pop().filter(|_| count == 1) else {
            return Err(Refusal::malformed(format!("{count} commands where there is one")));
        };
        Ok(wire::propose_reply(self.local.propose(command).await))
    }
}

/// Our request as the engine's.
fn to_engine<R: AsyncRuntime>(request: AppendRequest) -> AppendEntriesRequest<Types<R>> {
    AppendEntriesRequest {
        vote: request.vote,
        prev_log_id: request.previous,
        entries: request.entries,
        leader_commit: request.committed,
    }
}

/// The engine does not run any more.
fn stopped<R: AsyncRuntime>(error: &RaftError<Types<R>>) -> Refusal {
    Refusal { code: Code::Unavailable, problem: format!("the node has stopped: {error}") }
}

/// The same, where the engine says only that.
fn stopped_for<R: AsyncRuntime>(error: &Fatal<Types<R>>) -> Refusal {
    Refusal { code: Code::Unavailable, problem: format!("the node has stopped: {error}") }
}

#[async_trait]
impl<R, S, T> Service for Incoming<R, S, T>
where
    R: AsyncRuntime,
    S: RaftStateMachine<Types<R>, SnapshotData = T::Data>,
    T: Transit,
{
    async fn call(&self, from: NodeId, topic: Topic, message: Message) -> Result<Message, Refusal> {
        if from == self.id {
            return Err(Refusal::malformed(format!("node {from} calls itself")));
        }
        self.running()?;
        match topic {
            Topic::Append => self.append(from, message).await,
            Topic::Vote | Topic::PreVote => self.vote(from, topic, &message).await,
            Topic::Transfer => self.transfer(from, &message).await,
            Topic::ReadIndex => Ok(wire::read_index(&self.local.read_index().await)),
            Topic::Propose => self.propose(message).await,
            Topic::Hello => Ok(wire::hello(&self.local.hello().await)),
            Topic::Snapshot => Err(Refusal::malformed("a snapshot comes as a stream")),
        }
    }

    fn stream(
        &self,
        from: NodeId,
        topic: Topic,
        requests: BoxStream<'static, Result<Message, Broken>>,
    ) -> BoxStream<'static, Result<Message, Refusal>> {
        if let Err(refusal) = self.running() {
            return refuse(refusal);
        }
        match topic {
            _ if from == self.id => refuse(Refusal::malformed(format!("node {from} calls itself"))),
            Topic::Append => append::answer(self.owner.clone(), from, requests),
            Topic::Snapshot => {
                let receiver = snapshot::Receiver {
                    owner: self.owner.clone(),
                    raft: self.raft.clone(),
                    transit: Arc::clone(&self.transit),
                    slot: Arc::clone(&self.slot),
                    alive: self.alive,
                };
                receiver.answer(from, requests)
            }
            other => refuse(Refusal::malformed(format!("{} is no stream", other.name()))),
        }
    }
}

/// A stream of one refusal.
fn refuse(refusal: Refusal) -> BoxStream<'static, Result<Message, Refusal>> {
    stream::iter([Err(refusal)]).boxed()
}
