//! What people ask a node: how it stands, and to change its cluster.
//!
//! [`RaftActions`] answers Flight actions with JSON; what changes the cluster is
//! passed on to the leader, once.

mod json;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_flight::{
    ActionHandler, CallContext, CallOptions, ChannelPool, Error, FORWARDED, Need, Right, invalid,
};
use sheaf_retry::Code;
use tokio::sync::{Mutex, oneshot};

pub use json::{
    AddLearnerInput, DigestInput, DoneRecord, LeaderRecord, MemberRecord, NodeInput, StatusRecord,
    TransferInput,
};

use crate::machine::StateMachine;
use crate::node::{ChangeError, RaftNode, Status};
use crate::replica;
use crate::types::{Member, NodeId};

/// Most addresses of one node.
const MAX_ENDPOINTS: usize = 8;
/// Longest of them.
const MAX_ENDPOINT: usize = 300;

/// How long a hash of the state may take, with the wait for those that are being made.
const DIGEST: Duration = Duration::from_secs(10);

/// Where a token needs rights for them.
pub(crate) const NAMESPACE: &str = "raft";

const STATUS: &str = "RaftStatus";
const ADD_LEARNER: &str = "RaftAddLearner";
const PROMOTE: &str = "RaftPromote";
const REMOVE: &str = "RaftRemove";
const TRANSFER_LEADER: &str = "RaftTransferLeader";
const SNAPSHOT: &str = "RaftSnapshot";

/// The actions of one node.
pub struct RaftActions<M>
where
    M: StateMachine,
{
    node: RaftNode<M>,
    pool: ChannelPool,
    /// Whoever hashes the state: it takes a thread, and the state from commands.
    hashing: Arc<Mutex<()>>,
}

impl<M: StateMachine> std::fmt::Debug for RaftActions<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftActions").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<M: StateMachine> RaftActions<M> {
    /// Where a token needs rights for them.
    pub const NAMESPACE: &'static str = NAMESPACE;

    /// Answers for `node`; leaders elsewhere are called over `pool`.
    pub fn new(node: RaftNode<M>, pool: ChannelPool) -> Self {
        RaftActions { node, pool, hashing: Arc::default() }
    }

    async fn run(&self, action: &str, body: &Bytes) -> Result<Vec<Bytes>, Failed> {
        match action {
            STATUS => {
                let DigestInput { digest } = parse(action, body)?;
                reply(action, &self.status(digest).await?)
            }
            ADD_LEARNER => {
                let input: AddLearnerInput = parse(action, body)?;
                check(&input)?;
                let AddLearnerInput { node_id, endpoints } = input;
                self.node.add_learner(node_id, Member::new(endpoints)).await?;
                self.done(action, format!("node {node_id} follows, without a vote"))
            }
            PROMOTE => {
                let NodeInput { node_id } = parse(action, body)?;
                self.node.promote(node_id).await?;
                self.done(action, format!("node {node_id} has a vote"))
            }
            REMOVE => {
                let NodeInput { node_id } = parse(action, body)?;
                self.node.remove(node_id).await?;
                self.done(action, format!("node {node_id} is out of the cluster for good"))
            }
            TRANSFER_LEADER => {
                let TransferInput { node_id } = parse(action, body)?;
                let to = match node_id {
                    Some(to) => {
                        self.node.transfer_leader(to).await?;
                        to
                    }
                    None => self.node.hand_over().await?,
                };
                self.done(action, format!("node {to} leads"))
            }
            SNAPSHOT => {
                let DigestInput { .. } = parse(action, body)?;
                self.node.snapshot().await?;
                let index = self.node.status().snapshot.unwrap_or(0);
                let done = format!("node {} has a snapshot up to entry {index}", self.node.id());
                reply(action, &DoneRecord { done, index })
            }
            other => Err(Error::new(Code::Unimplemented, format!("no action {other:?}")).into()),
        }
    }

    async fn status(&self, digest: bool) -> Result<StatusRecord, Error> {
        let mut record = StatusRecord::from(self.node.status());
        if !digest {
            return Ok(record);
        }
        let hashed = tokio::time::timeout(DIGEST, self.digest()).await;
        let Ok(hashed) = hashed else {
            let text = format!(
                "{STATUS}: no hash of the state within {DIGEST:?}: it is large, or changes all the \
                 time, and commands do not wait for that; ask again when there is less to do"
            );
            return Err(Error::new(Code::Unavailable, text));
        };
        let hashed = hashed.ok_or_else(|| Error::new(Code::Internal, "no digest was made"))?;
        record.digest = Some(format!("{hashed:016x}"));
        Ok(record)
    }

    /// A hash of the state, made after the call; it is given up with the call.
    async fn digest(&self) -> Option<u64> {
        let turn = Arc::clone(&self.hashing).lock_owned().await;
        let (answer, hashed) = oneshot::channel();
        let node = self.node.clone();
        drop(tokio::task::spawn_blocking(move || {
            let digest = node.digest_while(|| !answer.is_closed());
            drop(turn);
            answer.send(digest)
        }));
        hashed.await.ok().flatten()
    }

    fn done(&self, action: &str, done: String) -> Result<Vec<Bytes>, Failed> {
        let index = self.node.status().committed.unwrap_or(0);
        reply(action, &DoneRecord { done, index })
    }
}

/// Asks the leader in place of this node, at the first of its addresses that answers.
pub(crate) async fn ask_leader(
    pool: &ChannelPool,
    leader: Option<(NodeId, Member)>,
    action: &str,
    body: &Bytes,
) -> Result<Vec<Bytes>, Error> {
    let Some((id, member)) = leader else {
        let text = format!("{action}: no leader is known at the moment; try again");
        return Err(Error::new(Code::Unavailable, text));
    };
    let options = CallOptions::default().header(FORWARDED, "true");
    let mut last = None;
    for endpoint in &member.endpoints {
        let connection = match pool.connection(endpoint) {
            Ok(connection) => connection,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        match connection.action(action, body.clone(), &options).await {
            Err(error) if sheaf_retry::Retryable::code(&error) == Code::Unavailable => {
                last = Some(error);
            }
            answer => return answer,
        }
    }
    let why = last.map_or_else(String::new, |error| format!(": {}", error.message()));
    let text = format!("{action}: node {id}, which leads, cannot be reached{why}");
    Err(Error::new(Code::Unavailable, text))
}

/// Why an action was not done here.
enum Failed {
    Error(Error),
    /// The leader does it.
    Elsewhere(Option<(NodeId, Member)>),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Error(error)
    }
}

impl From<ChangeError> for Failed {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Replica(replica::Error::NotLeader { leader }) => Failed::Elsewhere(leader),
            error => Failed::Error(Error::from_error(error)),
        }
    }
}

impl From<Status> for StatusRecord {
    fn from(status: Status) -> Self {
        let leader = status.leader.map(|id| {
            let known = status.members.iter().find(|one| one.id == id);
            let endpoints = known.map(|one| one.member.endpoints.clone()).unwrap_or_default();
            LeaderRecord { node_id: id, endpoints }
        });
        let members = status.members.into_iter().map(|one| MemberRecord {
            node_id: one.id,
            endpoints: one.member.endpoints,
            voter: one.is_voter,
            matched: one.matched,
            lag: one.lag,
            answered_ms: one.since_answer.map(millis),
            problem: one.problem,
        });
        StatusRecord {
            cluster_id: status.cluster_id,
            node_id: status.id,
            role: status.role.name().to_owned(),
            term: status.term,
            leader,
            last_log: status.last_log.unwrap_or(0),
            committed: status.committed.unwrap_or(0),
            applied: status.applied.unwrap_or(0),
            snapshot: status.snapshot.unwrap_or(0),
            purged: status.purged.unwrap_or(0),
            members: members.collect(),
            digest: None,
            stopped: status.stopped,
        }
    }
}

fn millis(since: std::time::Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn check(input: &AddLearnerInput) -> Result<(), Error> {
    let AddLearnerInput { node_id, endpoints } = input;
    let problem = if *node_id == 0 {
        "node_id: 0 is no number of a node, from 1 on".to_owned()
    } else if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
        format!("endpoints: {} addresses, 1 to {MAX_ENDPOINTS} are allowed", endpoints.len())
    } else if let Some(long) = endpoints.iter().find(|one| one.len() > MAX_ENDPOINT) {
        format!("endpoints: {} bytes are over the limit of {MAX_ENDPOINT}", long.len())
    } else {
        let wrong = endpoints.iter().find_map(|one| one.parse::<sheaf_flight::Target>().err());
        match wrong {
            Some(error) => format!("endpoints: {}", error.message()),
            None => return Ok(()),
        }
    };
    Err(invalid(format!("{ADD_LEARNER}: {problem}")))
}

fn parse<T: DeserializeOwned>(action: &str, body: &Bytes) -> Result<T, Error> {
    let body = if body.trim_ascii().is_empty() { &b"{}"[..] } else { body };
    serde_json::from_slice(body).map_err(|error| invalid(format!("{action}: {error}")))
}

fn reply<T: Serialize>(action: &str, value: &T) -> Result<Vec<Bytes>, Failed> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::new(Code::Internal, format!("{action}: no answer: {error}")))?;
    Ok(vec![bytes.into()])
}

#[async_trait]
impl<M: StateMachine> ActionHandler for RaftActions<M> {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            (STATUS, "How a node of the Raft cluster stands, as JSON"),
            (ADD_LEARNER, "Have a node follow the cluster, without a vote"),
            (PROMOTE, "Give a learner a vote"),
            (REMOVE, "Take a node out of the cluster"),
            (TRANSFER_LEADER, "Have another node lead"),
            (SNAPSHOT, "Write a snapshot of the state now"),
        ]
    }

    fn needs(&self, action: &str) -> Need {
        match action {
            STATUS => Need::One(Self::NAMESPACE, Right::Read),
            _ => Need::One(Self::NAMESPACE, Right::Change),
        }
    }

    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        match self.run(action, &body).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Elsewhere(leader)) if context.header(FORWARDED).is_none() => {
                ask_leader(&self.pool, leader, action, &body).await
            }
            Err(Failed::Elsewhere(_)) => {
                let text = format!("{action}: the lead has just changed; try again");
                Err(Error::new(Code::Unavailable, text))
            }
        }
    }
}
