//! Appends and what became of them.

use openraft::EntryPayload;
use sheaf_proto::raft::v1 as proto;

use super::{decode, head, known, own_vote, present};
use crate::network::{Message, Refusal};
use crate::stored::{from_membership, from_vote, log_id, position, to_membership, to_vote};
use crate::types::{Command, Entry, LogId, NodeId, Payload, Vote};

/// Most entries that one append may have: far more than a leader sends.
const MAX_ENTRIES: usize = 65_536;

/// Entries after one that the follower should have, on any runtime.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppendRequest {
    pub(crate) sequence: u64,
    pub(crate) vote: Vote,
    pub(crate) previous: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
    /// Of the log that it is for; 0 where that is not known.
    pub(crate) incarnation: u64,
}

impl AppendRequest {
    /// What the follower has, once it has these.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.previous)
    }
}

/// What a follower made of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It has everything up to here.
    Matched(Option<LogId>),
    /// It does not have this entry.
    Conflict(LogId),
    /// It knows of a later vote.
    Higher(Vote),
}

pub(crate) fn append_request(request: AppendRequest) -> Message {
    let mut payloads = Vec::new();
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        use proto::entry_head::Payload;
        let payload = match entry.payload {
            EntryPayload::Blank => Some(Payload::Blank(proto::Blank {})),
            EntryPayload::Membership(members) => Some(Payload::Membership(to_membership(&members))),
            EntryPayload::Normal(command) => {
                payloads.push(command.0);
                None
            }
        };
        entries.push(proto::EntryHead { term: *entry.log_id.leader_id, payload });
    }
    let mut message = head(&proto::AppendRequest {
        sequence: request.sequence,
        vote: Some(to_vote(&request.vote)),
        previous: request.previous.as_ref().map(position),
        committed: request.committed.as_ref().map(position),
        entries,
        incarnation: request.incarnation,
    });
    message.payloads = payloads;
    message
}

/// Reads an append of the leader it says it is of.
///
/// The entries follow each other by construction; their terms never fall, and none is later
/// than the leader's.
pub(crate) fn read_append_request(
    from: NodeId,
    message: Message,
) -> Result<AppendRequest, Refusal> {
    let request: proto::AppendRequest = decode(&message)?;
    let vote = own_vote(from, request.vote, true)?;
    let previous = known(request.previous, &vote)?;
    let committed = known(request.committed, &vote)?;
    let count = request.entries.len();
    if count > MAX_ENTRIES {
        let problem = format!("an append of {count} entries, the limit is {MAX_ENTRIES}");
        return Err(Refusal::malformed(problem));
    }
    let mut payloads = message.payloads.into_iter();
    let mut term = previous.map_or(0, |id| *id.leader_id);
    let mut index = previous.map_or(0, |id| id.index.saturating_add(1));
    let mut entries = Vec::with_capacity(count);
    for entry in request.entries {
        if entry.term < term || entry.term > vote.leader_id.term {
            let problem = format!("an entry of term {} after one of term {term}", entry.term);
            return Err(Refusal::malformed(problem));
        }
        term = entry.term;
        let payload = payload(entry, &mut payloads)?;
        entries.push(Entry { log_id: LogId::new_term_index(term, index), payload });
        index = index.checked_add(1).ok_or_else(|| Refusal::malformed("the log is full"))?;
    }
    let left = payloads.len();
    if left > 0 {
        return Err(Refusal::malformed(format!("{left} payloads without an entry")));
    }
    let proto::AppendRequest { sequence, incarnation, .. } = request;
    Ok(AppendRequest { sequence, vote, previous, committed, entries, incarnation })
}

fn payload(
    entry: proto::EntryHead,
    payloads: &mut impl Iterator<Item = bytes::Bytes>,
) -> Result<Payload, Refusal> {
    use proto::entry_head::Payload as Head;
    Ok(match entry.payload {
        None => EntryPayload::Normal(Command(present(payloads.next(), "a command's payload")?)),
        Some(Head::Blank(_)) => EntryPayload::Blank,
        Some(Head::Membership(members)) => {
            EntryPayload::Membership(from_membership(members).map_err(Refusal::malformed)?)
        }
    })
}

pub(crate) fn append_reply(sequence: u64, appended: &Appended) -> Message {
    use proto::append_reply::Result;
    let result = match appended {
        Appended::Matched(last) => {
            Result::Matched(proto::Matched { last: last.as_ref().map(position) })
        }
        Appended::Conflict(id) => Result::Conflict(position(id)),
        Appended::Higher(vote) => Result::Higher(to_vote(vote)),
    };
    head(&proto::AppendReply { sequence, result: Some(result) })
}

/// Reads what became of an append; the request says what it can be.
///
/// A follower that tells more than it was sent would have the leader commit what is nowhere.
pub(crate) fn read_append_reply(
    message: &Message,
    sequence: u64,
    previous: Option<LogId>,
    last: Option<LogId>,
) -> Result<Appended, Refusal> {
    use proto::append_reply::Result as Reply;
    let reply: proto::AppendReply = decode(message)?;
    if reply.sequence != sequence {
        let problem = format!("the answer to {} where {sequence} is waited for", reply.sequence);
        return Err(Refusal::malformed(problem));
    }
    match present(reply.result, "the result")? {
        Reply::Matched(matched) => {
            let matched = matched.last.map(log_id);
            if matched != last {
                return Err(Refusal::malformed("it says to have another entry than it was sent"));
            }
            Ok(Appended::Matched(matched))
        }
        Reply::Conflict(id) => {
            let id = log_id(id);
            if Some(id) != previous {
                return Err(Refusal::malformed("it lacks an entry that it was not asked for"));
            }
            Ok(Appended::Conflict(id))
        }
        Reply::Higher(vote) => Ok(Appended::Higher(from_vote(vote))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request() -> AppendRequest {
        let entry =
            |term, index, payload| Entry { log_id: LogId::new_term_index(term, index), payload };
        AppendRequest {
            sequence: 7,
            vote: Vote::new_committed(5, 2),
            previous: Some(LogId::new_term_index(3, 41)),
            committed: Some(LogId::new_term_index(3, 40)),
            entries: vec![
                entry(3, 42, EntryPayload::Normal(Command(Bytes::from_static(b"one")))),
                entry(5, 43, EntryPayload::Blank),
                entry(5, 44, EntryPayload::Normal(Command(Bytes::from_static(b"")))),
            ],
            incarnation: 12,
        }
    }

    fn problem(message: Message) -> String {
        read_append_request(2, message).unwrap_err().problem
    }

    #[test]
    fn an_append_reads_as_it_was_written() {
        let message = append_request(request());
        assert_eq!(message.payloads.len(), 2);
        assert_eq!(read_append_request(2, message).unwrap(), request());
    }

    #[test]
    fn an_append_of_another_node_is_refused() {
        let message = append_request(request());
        let refusal = read_append_request(1, message).unwrap_err();
        assert_eq!(refusal.problem, "node 1 comes with the vote of node 2");
    }

    #[test]
    fn an_append_of_a_candidate_is_refused() {
        let vote = Vote::new(5, 2);
        let message = append_request(AppendRequest { vote, ..request() });
        assert_eq!(problem(message), "the vote says that node 2 does not lead");
    }

    #[test]
    fn terms_that_fall_are_refused() {
        let mut falling = request();
        falling.entries[1].log_id = LogId::new_term_index(2, 43);
        assert_eq!(problem(append_request(falling)), "an entry of term 2 after one of term 3");
        let mut later = request();
        later.entries[2].log_id = LogId::new_term_index(6, 44);
        assert_eq!(problem(append_request(later)), "an entry of term 6 after one of term 5");
    }

    #[test]
    fn payloads_and_entries_that_do_not_agree_are_refused() {
        let mut less = append_request(request());
        less.payloads.pop();
        assert_eq!(problem(less), "a command's payload is missing");
        let mut more = append_request(request());
        more.payloads.push(Bytes::new());
        assert_eq!(problem(more), "1 payloads without an entry");
    }

    #[test]
    fn an_answer_is_held_against_its_request() {
        let (previous, last) = (request().previous, request().last());
        let read = |sequence, appended: Appended| {
            read_append_reply(&append_reply(7, &appended), sequence, previous, last)
        };
        let matched = Appended::Matched(last);
        assert_eq!(read(7, matched).unwrap(), matched);
        assert!(read(8, matched).is_err());
        assert!(read(7, Appended::Matched(Some(LogId::new_term_index(5, 45)))).is_err());
        let conflict = Appended::Conflict(previous.unwrap());
        assert_eq!(read(7, conflict).unwrap(), conflict);
        assert!(read(7, Appended::Conflict(LogId::new_term_index(3, 40))).is_err());
    }
}
