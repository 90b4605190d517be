//! Elections, and the lead that is handed over.

use sheaf_proto::raft::v1 as proto;

use super::{decode, head, known, own_vote, present};
use crate::network::{Message, Refusal};
use crate::stored::{from_vote, log_id, position, to_vote};
use crate::types::{LogId, NodeId, Vote};

/// A vote that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoteRequest {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    pub(crate) is_transfer: bool,
    /// Of the log that it is for; 0 where that is not known.
    pub(crate) incarnation: u64,
}

/// What was said to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoteReply {
    pub(crate) vote: Vote,
    pub(crate) is_granted: bool,
    pub(crate) last: Option<LogId>,
}

/// The lead, handed over to the log of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) leader: Vote,
    pub(crate) to: NodeId,
    pub(crate) last: Option<LogId>,
    pub(crate) incarnation: u64,
}

/// What became of the lead that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transferred {
    Taken,
    VoteChanged(Vote),
    NotFlushed { expected: Option<LogId>, actual: Option<LogId> },
}

pub(crate) fn vote(request: &VoteRequest) -> Message {
    head(&proto::VoteRequest {
        vote: Some(to_vote(&request.vote)),
        last: request.last.as_ref().map(position),
        is_transfer: request.is_transfer,
        incarnation: request.incarnation,
    })
}

/// Reads a request for a vote, of the candidate it says it is of.
pub(crate) fn read_vote(from: NodeId, message: &Message) -> Result<VoteRequest, Refusal> {
    let request: proto::VoteRequest = decode(message)?;
    let vote = own_vote(from, request.vote, false)?;
    let last = known(request.last, &vote)?;
    let proto::VoteRequest { is_transfer, incarnation, .. } = request;
    Ok(VoteRequest { vote, last, is_transfer, incarnation })
}

pub(crate) fn vote_reply(reply: &VoteReply) -> Message {
    head(&proto::VoteReply {
        vote: Some(to_vote(&reply.vote)),
        is_granted: reply.is_granted,
        last: reply.last.as_ref().map(position),
    })
}

pub(crate) fn read_vote_reply(message: &Message) -> Result<VoteReply, Refusal> {
    let reply: proto::VoteReply = decode(message)?;
    let vote = from_vote(present(reply.vote, "the vote")?);
    Ok(VoteReply { vote, is_granted: reply.is_granted, last: reply.last.map(log_id) })
}

pub(crate) fn transfer(request: &Transfer) -> Message {
    head(&proto::TransferRequest {
        leader: Some(to_vote(&request.leader)),
        to: request.to,
        last: request.last.as_ref().map(position),
        incarnation: request.incarnation,
    })
}

/// Reads who hands the lead over, to whom, and what that one must have.
pub(crate) fn read_transfer(from: NodeId, message: &Message) -> Result<Transfer, Refusal> {
    let request: proto::TransferRequest = decode(message)?;
    let leader = own_vote(from, request.leader, true)?;
    let last = known(request.last, &leader)?;
    let proto::TransferRequest { to, incarnation, .. } = request;
    Ok(Transfer { leader, to, last, incarnation })
}

pub(crate) fn transfer_reply(transferred: &Transferred) -> Message {
    use proto::transfer_reply::Result;
    let result = match transferred {
        Transferred::Taken => Result::Taken(proto::TransferTaken {}),
        Transferred::VoteChanged(vote) => Result::VoteChanged(to_vote(vote)),
        Transferred::NotFlushed { expected, actual } => Result::NotFlushed(proto::NotFlushed {
            expected: expected.as_ref().map(position),
            actual: actual.as_ref().map(position),
        }),
    };
    head(&proto::TransferReply { result: Some(result) })
}

pub(crate) fn read_transfer_reply(message: &Message) -> Result<Transferred, Refusal> {
    use proto::transfer_reply::Result as Reply;
    let reply: proto::TransferReply = decode(message)?;
    Ok(match present(reply.result, "the result")? {
        Reply::Taken(_) => Transferred::Taken,
        Reply::VoteChanged(vote) => Transferred::VoteChanged(from_vote(vote)),
        Reply::NotFlushed(proto::NotFlushed { expected, actual }) => {
            Transferred::NotFlushed { expected: expected.map(log_id), actual: actual.map(log_id) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_reads_as_it_was_written() {
        let last = Some(LogId::new_term_index(3, 8));
        let request =
            VoteRequest { vote: Vote::new(4, 2), last, is_transfer: true, incarnation: 8 };
        assert_eq!(read_vote(2, &vote(&request)).unwrap(), request);
        let reply = VoteReply { vote: Vote::new_committed(9, 3), is_granted: false, last };
        assert_eq!(read_vote_reply(&vote_reply(&reply)).unwrap(), reply);
    }

    #[test]
    fn a_candidate_cannot_have_entries_of_a_later_term() {
        let last = Some(LogId::new_term_index(5, 8));
        let vote_4 = Vote::new(4, 2);
        let request = VoteRequest { vote: vote_4, last, is_transfer: false, incarnation: 0 };
        let refusal = read_vote(2, &vote(&request)).unwrap_err();
        assert_eq!(refusal.problem, "an entry of term 5 in term 4");
    }

    #[test]
    fn a_transfer_reads_as_it_was_written() {
        let (leader, last) = (Vote::new_committed(4, 2), LogId::new_term_index(4, 8));
        let request = Transfer { leader, to: 3, last: Some(last), incarnation: 5 };
        let message = transfer(&request);
        assert_eq!(read_transfer(2, &message).unwrap(), request);
        assert!(read_transfer(3, &message).is_err());
        for outcome in [
            Transferred::Taken,
            Transferred::VoteChanged(leader),
            Transferred::NotFlushed { expected: Some(last), actual: None },
        ] {
            assert_eq!(read_transfer_reply(&transfer_reply(&outcome)).unwrap(), outcome);
        }
    }
}
