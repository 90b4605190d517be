//! The engine's messages as Protocol Buffers, and back with every check.

mod append;
mod replies;
mod snapshot;
mod votes;

use bytes::Bytes;
use openraft::vote::RaftLeaderId as _;
use sheaf_proto::raft::v1 as proto;

pub(crate) use self::append::{
    AppendRequest, Appended, append_reply, append_request, read_append_reply, read_append_request,
};
pub(crate) use self::replies::{
    BYTES, COMMANDS, Hello, hello, hello_request, propose, propose_reply, read_hello, read_index,
    read_index_request, read_propose_reply, read_read_index,
};
pub(crate) use self::snapshot::{
    Received, SnapshotStep, install, offer, piece, read_snapshot_reply, read_snapshot_step,
    snapshot_reply,
};
pub(crate) use self::votes::{
    Transfer, Transferred, VoteReply, VoteRequest, read_transfer, read_transfer_reply, read_vote,
    read_vote_reply, transfer, transfer_reply, vote, vote_reply,
};
use super::{Message, Refusal};
use crate::stored::{from_vote, log_id};
use crate::types::{LogId, NodeId, Vote};

/// Reads a head.
fn decode<T: prost::Message + Default>(message: &Message) -> Result<T, Refusal> {
    T::decode(message.head.clone()).map_err(|error| Refusal::malformed(error.to_string()))
}

/// A message without payloads.
fn head(message: &impl prost::Message) -> Message {
    Message { head: message.encode_to_vec().into(), payloads: Vec::new() }
}

/// A message with one payload.
fn with_payload(message: &impl prost::Message, payload: Bytes) -> Message {
    Message { head: message.encode_to_vec().into(), payloads: vec![payload] }
}

/// The payload of a message that has one.
fn one_payload(message: Message) -> Result<Bytes, Refusal> {
    let count = message.payloads.len();
    let [payload]: [Bytes; 1] = message
        .payloads
        .try_into()
        .map_err(|_| Refusal::malformed(format!("{count} payloads where there is one")))?;
    Ok(payload)
}

/// Something that has to be there.
fn present<T>(value: Option<T>, what: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::malformed(format!("{what} is missing")))
}

/// A vote of whoever sent it, who leads with it or wants to.
fn own_vote(from: NodeId, vote: Option<proto::Vote>, leads: bool) -> Result<Vote, Refusal> {
    let vote = from_vote(present(vote, "the vote")?);
    let node = *vote.leader_id.node_id();
    if node != from {
        return Err(Refusal::malformed(format!("node {from} comes with the vote of node {node}")));
    }
    if vote.committed != leads {
        let said = if vote.committed { "leads" } else { "does not lead" };
        return Err(Refusal::malformed(format!("the vote says that node {from} {said}")));
    }
    Ok(vote)
}

/// A position that a node of this term can know of.
fn known(position: Option<proto::LogPosition>, vote: &Vote) -> Result<Option<LogId>, Refusal> {
    let Some(position) = position else { return Ok(None) };
    let term = vote.leader_id.term;
    if position.term > term {
        let what = format!("an entry of term {} in term {term}", position.term);
        return Err(Refusal::malformed(what));
    }
    Ok(Some(log_id(position)))
}
