//! The engine's types as records on disk, and back.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use sheaf_proto::raft::v1 as proto;

use crate::types::{Command, Member, NodeId};

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, NodeId>;
pub(crate) type CommittedLeader = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeader>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Payload = EntryPayload<Command, NodeId, Member>;
pub(crate) type Entry = openraft::impls::Entry<CommittedLeader, Payload>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeader, NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeader, NodeId, Member>;

/// What a record lacks, or has that cannot be.
pub(crate) type Wrong = String;

pub(crate) fn position(id: &LogId) -> proto::LogPosition {
    proto::LogPosition { term: *id.leader_id, index: id.index }
}

pub(crate) fn log_id(position: proto::LogPosition) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

pub(crate) fn to_vote(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        is_committed: vote.committed,
    }
}

pub(crate) fn from_vote(vote: proto::Vote) -> Vote {
    Vote {
        leader_id: LeaderId { term: vote.term, voted_for: vote.node },
        committed: vote.is_committed,
    }
}

pub(crate) fn to_member(member: &Member) -> proto::Member {
    proto::Member { endpoints: member.endpoints.clone(), incarnation: member.incarnation }
}

pub(crate) fn from_member(member: proto::Member) -> Member {
    Member { endpoints: member.endpoints, incarnation: member.incarnation }
}

pub(crate) fn to_membership(membership: &Membership) -> proto::Membership {
    let configs = membership.get_joint_config().iter();
    let nodes = membership.nodes();
    proto::Membership {
        configs: configs
            .map(|voters| proto::Voters { nodes: voters.iter().copied().collect() })
            .collect(),
        nodes: nodes.map(|(id, member)| (*id, to_member(member))).collect(),
    }
}

pub(crate) fn from_membership(membership: proto::Membership) -> Result<Membership, Wrong> {
    let nodes: BTreeMap<NodeId, Member> =
        membership.nodes.into_iter().map(|(id, member)| (id, from_member(member))).collect();
    let configs: Vec<BTreeSet<NodeId>> =
        membership.configs.into_iter().map(|voters| voters.nodes.into_iter().collect()).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| format!("a membership that cannot be: {error}"))
}

pub(crate) fn to_entry(entry: &Entry) -> proto::LogEntry {
    use proto::log_entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(proto::Blank {}),
        EntryPayload::Normal(command) => Payload::Command(command.0.clone()),
        EntryPayload::Membership(membership) => Payload::Membership(to_membership(membership)),
    };
    proto::LogEntry { position: Some(position(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn from_entry(entry: proto::LogEntry) -> Result<Entry, Wrong> {
    use proto::log_entry::Payload;
    let position = entry.position.ok_or("an entry without its position")?;
    let payload = match entry.payload.ok_or("an entry without payload")? {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Command(command) => EntryPayload::Normal(Command(command)),
        Payload::Membership(membership) => EntryPayload::Membership(from_membership(membership)?),
    };
    Ok(Entry { log_id: log_id(position), payload })
}

/// Bytes that an entry holds, about.
pub(crate) fn size(entry: &Entry) -> u64 {
    let payload = match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Membership(membership) => 64 * membership.nodes().count(),
    };
    (payload + size_of::<Entry>()) as u64
}
