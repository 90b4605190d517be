//! The engine's way to one other node.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, RaftNetworkFactory, RaftNetworkV2, Snapshot};
use sheaf_retry::Code;

use super::wire::{self, AppendRequest, Appended, Transferred};
use super::{Broken, Lane, Links, Message, Refusal, Topic, Transit, Troubles};
use crate::config::RaftClusterConfig;
use crate::types::{EntryLeader, LogId, Member, NodeId, Types, Vote};

/// How many appends and bytes may be on their way to one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

/// How far each node is known to have come, under the vote that led then.
///
/// The engine takes it for impossible that a follower loses what it had. A disk that was
/// emptied does just that, and must be told from a follower that is behind.
#[derive(Debug, Default)]
struct Progress {
    matched: Mutex<BTreeMap<NodeId, (Vote, LogId)>>,
}

impl Progress {
    /// Notes what a node has; says so where it lacks what it had.
    fn note(&self, node: NodeId, vote: &Vote, appended: &Appended) -> Result<(), LostLog> {
        let mut matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        match appended {
            Appended::Matched(Some(last)) => {
                let known = matched.entry(node).or_insert((*vote, *last));
                if known.0 != *vote || known.1 < *last {
                    *known = (*vote, *last);
                }
                Ok(())
            }
            Appended::Conflict(lacks) => match matched.get(&node) {
                Some((led, had)) if led == vote && lacks.index <= had.index => {
                    Err(LostLog { node, had: had.index, lacks: lacks.index })
                }
                _ => Ok(()),
            },
            Appended::Matched(None) | Appended::Higher(_) => Ok(()),
        }
    }
}

/// A node that lost what it had acknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "node {node} had entry {had} and lacks entry {lacks}: its log was lost; remove it and add it \
     under a new id"
)]
struct LostLog {
    node: NodeId,
    had: u64,
    lacks: u64,
}

/// Makes the engine's ways to the other nodes.
pub(crate) struct Peers<T> {
    id: NodeId,
    links: Arc<dyn Links>,
    transit: Arc<T>,
    in_flight: InFlight,
    election_timeout: Duration,
    progress: Arc<Progress>,
    troubles: Arc<Troubles>,
}

impl<T> Peers<T> {
    pub(crate) fn new(
        config: &RaftClusterConfig,
        links: Arc<dyn Links>,
        transit: Arc<T>,
        troubles: Arc<Troubles>,
    ) -> Self {
        let (requests, bytes) = (config.requests_in_flight, config.bytes_in_flight);
        Peers {
            id: config.node_id,
            links,
            transit,
            in_flight: InFlight { requests, bytes },
            election_timeout: config.election_timeout(),
            progress: Arc::default(),
            troubles,
        }
    }

    fn peer(&self, target: NodeId, member: &Member, lane: Lane) -> Peer<T> {
        Peer {
            id: self.id,
            target,
            member: member.clone(),
            lane,
            links: Arc::clone(&self.links),
            transit: Arc::clone(&self.transit),
            in_flight: self.in_flight,
            election_timeout: self.election_timeout,
            progress: Arc::clone(&self.progress),
            troubles: Arc::clone(&self.troubles),
        }
    }
}

impl<R: AsyncRuntime, T: Transit> RaftNetworkFactory<Types<R>> for Peers<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Peer<T> {
        self.peer(target, member, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, member: &Member) -> Peer<T> {
        self.peer(target, member, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, member: &Member) -> Peer<T> {
        self.peer(target, member, Lane::Bulk)
    }
}

/// The way to one node, for one purpose.
pub(crate) struct Peer<T> {
    id: NodeId,
    pub(super) target: NodeId,
    pub(super) member: Member,
    lane: Lane,
    pub(super) links: Arc<dyn Links>,
    pub(super) transit: Arc<T>,
    pub(super) in_flight: InFlight,
    pub(super) election_timeout: Duration,
    progress: Arc<Progress>,
    troubles: Arc<Troubles>,
}

impl<T: Transit> Peer<T> {
    /// One message and its answer, within a time.
    async fn call<R: AsyncRuntime>(
        &self,
        topic: Topic,
        message: Message,
        (action, within): (RPCTypes, Duration),
    ) -> Result<Message, RPCError<Types<R>>> {
        let answer = self.links.call(self.target, &self.member, Lane::Control, topic, message);
        match R::timeout(within, answer).await {
            Ok(Err(broken)) if is_early(topic, &broken) => Err(rpc_error(&broken)),
            Ok(answer) => answer.map_err(|broken| self.broken(&broken)),
            Err(_) => Err(self.late(action, within)),
        }
    }

    /// What the engine is told of a link that failed; what a node refused is kept, to show.
    pub(super) fn broken<R: AsyncRuntime>(&self, broken: &Broken) -> RPCError<Types<R>> {
        if let Broken::Refused { .. } = broken {
            self.troubles.refused(self.target, self.lane, broken.to_string());
        }
        rpc_error(broken)
    }

    /// The node took what came this way.
    pub(super) fn took(&self) {
        self.troubles.took(self.target, self.lane);
    }

    pub(super) fn late<R: AsyncRuntime>(
        &self,
        action: RPCTypes,
        timeout: Duration,
    ) -> RPCError<Types<R>> {
        RPCError::Timeout(Timeout { action, id: self.id, target: self.target, timeout })
    }

    /// What the engine is told of an append's outcome.
    pub(super) fn appended<R: AsyncRuntime>(
        &self,
        vote: &Vote,
        appended: Appended,
    ) -> Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>> {
        use openraft::raft::StreamAppendError;
        if let Err(lost) = self.progress.note(self.target, vote, &appended) {
            self.troubles.refused(self.target, self.lane, lost.to_string());
            return Err(RPCError::Unreachable(Unreachable::new(&lost)));
        }
        Ok(match appended {
            Appended::Matched(last) => {
                self.took();
                Ok(last)
            }
            Appended::Conflict(id) => Err(StreamAppendError::Conflict(id)),
            Appended::Higher(vote) => Err(StreamAppendError::HigherVote(vote)),
        })
    }

    /// One append as a call: a heartbeat, which waits behind nothing.
    async fn append_one<R: AsyncRuntime>(
        &self,
        request: AppendEntriesRequest<Types<R>>,
        option: &RPCOption,
    ) -> Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>> {
        let request = of_engine(request, 0, self.member.incarnation);
        let (vote, previous, last) = (request.vote, request.previous, request.last());
        let limits = (RPCTypes::AppendEntries, option.soft_ttl());
        let reply = self.call(Topic::Append, wire::append_request(request), limits).await?;
        let appended = wire::read_append_reply(&reply, 0, previous, last).map_err(|r| odd(&r))?;
        self.appended(&vote, appended)
    }

    /// Asks for a vote, or whether it would be given.
    async fn ask_vote<R: AsyncRuntime>(
        &self,
        topic: Topic,
        request: VoteRequest<Types<R>>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let message = wire::vote(&wire::VoteRequest {
            vote: request.vote,
            last: request.last_log_id,
            is_transfer: request.leadership_transfer,
            incarnation: self.member.incarnation,
        });
        let reply = self.call(topic, message, (RPCTypes::Vote, option.soft_ttl())).await?;
        let reply = wire::read_vote_reply(&reply).map_err(|refusal| odd(&refusal))?;
        Ok(VoteResponse {
            vote: reply.vote,
            vote_granted: reply.is_granted,
            last_log_id: reply.last,
        })
    }
}

/// A node that has not founded the cluster yet gives no vote, and one that ends gives none any
/// more: that is no trouble with it.
fn is_early(topic: Topic, broken: &Broken) -> bool {
    let is_for_now = matches!(broken, Broken::Refused { code: Code::Unavailable, .. });
    is_for_now && matches!(topic, Topic::Vote | Topic::PreVote)
}

/// The engine's request as ours.
pub(super) fn of_engine<R: AsyncRuntime>(
    request: AppendEntriesRequest<Types<R>>,
    sequence: u64,
    incarnation: u64,
) -> AppendRequest {
    AppendRequest {
        sequence,
        vote: request.vote,
        previous: request.prev_log_id,
        committed: request.leader_commit,
        entries: request.entries,
        incarnation,
    }
}

/// What the engine makes of a link that failed: it waits before it tries a node again that
/// cannot be reached or that refuses, and tries at once where a link broke.
pub(super) fn rpc_error<R: AsyncRuntime>(broken: &Broken) -> RPCError<Types<R>> {
    match broken {
        Broken::Unreachable { .. } | Broken::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(broken))
        }
        Broken::Cut { .. } => RPCError::Network(NetworkError::new(broken)),
    }
}

/// An answer that cannot be.
pub(super) fn odd<R: AsyncRuntime>(refusal: &Refusal) -> RPCError<Types<R>> {
    RPCError::Unreachable(Unreachable::new(refusal))
}

impl<R: AsyncRuntime, T: Transit> RaftNetworkV2<Types<R>> for Peer<T> {
    type SnapshotData = T::Data;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        Ok(self.append_one(request, &option).await?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Appending<'s, R>>
    where
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + Send + Unpin + 'static,
    {
        if self.lane != Lane::Control {
            return Box::pin(self.pipelined(input, option));
        }
        let peer: &'s Self = self;
        let answers = stream::unfold(Some(input), move |input| {
            let option = option.clone();
            async move {
                let mut input = input?;
                let answer = peer.append_one(input.next().await?, &option).await;
                let goes_on = matches!(answer, Ok(Ok(_)));
                Some((answer, goes_on.then_some(input)))
            }
        });
        Box::pin(async move { Ok(answers.boxed()) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        self.ask_vote(Topic::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        self.ask_vote(Topic::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<EntryLeader, NodeId, Member, T::Data>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        self.send_snapshot(vote, snapshot, cancel, option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let (leader, to) = (request.from_leader(), *request.to_node_id());
        let message = wire::transfer(&wire::Transfer {
            leader: *leader,
            to,
            last: request.last_log_id().copied(),
            incarnation: self.member.incarnation,
        });
        let limits = (RPCTypes::TransferLeader, option.soft_ttl());
        let reply = self.call(Topic::Transfer, message, limits).await?;
        Ok(match wire::read_transfer_reply(&reply).map_err(|refusal| odd(&refusal))? {
            Transferred::Taken => Ok(()),
            Transferred::VoteChanged(actual) => {
                Err(TransferLeaderError::VoteChanged { expected: *leader, actual })
            }
            Transferred::NotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed { expected, actual })
            }
        })
    }
}

/// The answers of appends, or why there are none.
pub(super) type Appending<'s, R> = Result<
    BoxStream<'s, Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>>,
    RPCError<Types<R>>,
>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_lost_its_log_is_told_from_one_that_is_behind() {
        let progress = Progress::default();
        let (vote, later) = (Vote::new_committed(3, 1), Vote::new_committed(4, 1));
        let at = |index| LogId::new_term_index(3, index);
        let note = |vote, appended| progress.note(2, vote, &appended).map_err(|e| e.to_string());

        assert_eq!(note(&vote, Appended::Conflict(at(9))), Ok(()));
        assert_eq!(note(&vote, Appended::Matched(Some(at(5)))), Ok(()));
        assert_eq!(note(&vote, Appended::Matched(Some(at(4)))), Ok(()));
        assert_eq!(note(&vote, Appended::Conflict(at(6))), Ok(()));
        let lost = note(&vote, Appended::Conflict(at(5))).unwrap_err();
        assert!(lost.starts_with("node 2 had entry 5 and lacks entry 5"), "{lost}");
        // Under another leader nothing is known yet.
        assert_eq!(note(&later, Appended::Conflict(at(5))), Ok(()));
    }
}
