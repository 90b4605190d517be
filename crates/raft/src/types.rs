//! What the consensus engine is told of our types.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::RaftTypeConfig;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;

/// Names a node for as long as the cluster lives; never given twice.
pub type NodeId = u64;

/// What one entry of the log asks of the state machine: bytes that it alone reads.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the state machine answered to a command, where it was one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer(pub Bytes);

/// Where a node is reached, and which log it has to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Addresses, the preferred one first: several where there are several paths.
    pub endpoints: Vec<String>,
    /// Tells the log that this member has from any that it might have instead; 0 where it is
    /// not known. The node fills it in as it takes somebody in.
    pub incarnation: u64,
}

impl Member {
    /// A member that is reached there, whichever log it has.
    pub fn new(endpoints: Vec<String>) -> Self {
        Member { endpoints, incarnation: 0 }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoints.join(","))
    }
}

/// Whom a node votes for, and in which term.
pub type LeaderId = leader_id_std::LeaderId<u64, NodeId>;

/// The leader as an entry names it: by its term alone.
pub type EntryLeader = <LeaderId as RaftLeaderId>::Committed;

/// A vote, committed once a majority gave it.
pub type Vote = openraft::impls::Vote<LeaderId>;

/// Where an entry stands, and of which term it is.
pub type LogId = openraft::LogId<EntryLeader>;

/// Who belongs to the cluster.
pub type Membership = openraft::Membership<NodeId, Member>;

/// The members as an entry set them.
pub type StoredMembership = openraft::StoredMembership<EntryLeader, NodeId, Member>;

/// What an entry is about.
pub type Payload = openraft::EntryPayload<Command, NodeId, Member>;

/// One entry of the log.
pub type Entry = openraft::impls::Entry<EntryLeader, Payload>;

/// What a snapshot stands for.
pub type SnapshotMeta = openraft::SnapshotMeta<EntryLeader, NodeId, Member>;

/// The engine's types, on a runtime: one leader a term, entries of opaque bytes.
pub struct Types<R = openraft_rt_tokio::TokioRuntime>(PhantomData<fn() -> R>);

// Not derived: that would ask the same of the runtime.
impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Types(PhantomData)
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Command;
    type R = Answer;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}
