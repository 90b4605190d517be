//! What is asked of a leader, and of any node.

use bytes::Bytes;
use sheaf_proto::raft::v1 as proto;
use sheaf_retry::Code;

use super::{decode, head, one_payload, present, with_payload};
use crate::network::{Message, Refusal};
use crate::replica::Error;
use crate::stored::{from_member, to_member};
use crate::types::NodeId;

/// What a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) term: u64,
    pub(crate) last: Option<u64>,
    pub(crate) leader: Option<NodeId>,
    /// A hash of the members that it would found the cluster of.
    pub(crate) founders: Option<u64>,
    /// Somebody was elected, as far as it knows.
    pub(crate) is_led: bool,
    /// Of its log; 0 where it is of an earlier version.
    pub(crate) incarnation: u64,
    /// A hash of the members and their logs that it founds the cluster of, or founded it of.
    pub(crate) founding: Option<u64>,
}

pub(crate) fn hello_request() -> Message {
    head(&proto::HelloRequest {})
}

pub(crate) fn hello(hello: &Hello) -> Message {
    head(&proto::HelloReply {
        term: hello.term,
        last: hello.last,
        leader: hello.leader.unwrap_or(0),
        founders: hello.founders,
        is_led: hello.is_led,
        incarnation: hello.incarnation,
        founding: hello.founding,
    })
}

pub(crate) fn read_hello(message: &Message) -> Result<Hello, Refusal> {
    let reply: proto::HelloReply = decode(message)?;
    let leader = Some(reply.leader).filter(|id| *id > 0);
    let proto::HelloReply { term, last, founders, is_led, incarnation, founding, .. } = reply;
    Ok(Hello { term, last, leader, founders, is_led, incarnation, founding })
}

pub(crate) fn read_index_request() -> Message {
    head(&proto::ReadIndexRequest {})
}

pub(crate) fn read_index(outcome: &Result<u64, Error>) -> Message {
    use proto::read_index_reply::Result as Reply;
    let result = match outcome {
        Ok(index) => Reply::Index(*index),
        Err(error) => Reply::Error(to_error(error)),
    };
    head(&proto::ReadIndexReply { result: Some(result) })
}

pub(crate) fn read_read_index(message: &Message) -> Result<Result<u64, Error>, Refusal> {
    use proto::read_index_reply::Result as Reply;
    let reply: proto::ReadIndexReply = decode(message)?;
    Ok(match present(reply.result, "the result")? {
        Reply::Index(index) => Ok(index),
        Reply::Error(error) => Err(from_error(error)?),
    })
}

pub(crate) fn propose(command: Bytes) -> Message {
    with_payload(&proto::ProposeRequest {}, command)
}

pub(crate) fn propose_reply(outcome: Result<Bytes, Error>) -> Message {
    match outcome {
        Ok(answer) => with_payload(&proto::ProposeReply { error: None }, answer),
        Err(error) => head(&proto::ProposeReply { error: Some(to_error(&error)) }),
    }
}

pub(crate) fn read_propose_reply(message: Message) -> Result<Result<Bytes, Error>, Refusal> {
    let reply: proto::ProposeReply = decode(&message)?;
    match reply.error {
        Some(error) => Ok(Err(from_error(error)?)),
        None => Ok(Ok(one_payload(message)?)),
    }
}

fn to_error(error: &Error) -> proto::ReplicaError {
    use proto::replica_error::Reason;
    let reason = match error.clone() {
        Error::NotLeader { leader } => {
            let (leader, member) = leader.unzip();
            let member = member.as_ref().map(to_member);
            Reason::NotLeader(proto::NotLeader { leader: leader.unwrap_or(0), member })
        }
        Error::Unknown { problem } => Reason::Unknown(problem),
        Error::Full { what, actual, limit } => {
            Reason::Full(proto::Full { actual, limit, is_bytes: what == BYTES })
        }
        Error::TooLarge { actual, limit } => Reason::TooLarge(proto::TooLarge { actual, limit }),
        Error::Stopped { problem, .. } => Reason::Stopped(problem),
    };
    proto::ReplicaError { reason: Some(reason) }
}

/// What waits, where it is bytes.
pub(crate) const BYTES: &str = "bytes of commands";

/// What waits, where it is commands.
pub(crate) const COMMANDS: &str = "commands";

fn from_error(error: proto::ReplicaError) -> Result<Error, Refusal> {
    use proto::replica_error::Reason;
    Ok(match present(error.reason, "the reason")? {
        Reason::NotLeader(proto::NotLeader { leader, member }) => {
            let member = member.map(from_member);
            let leader = member.filter(|_| leader > 0).map(|member| (leader, member));
            Error::NotLeader { leader }
        }
        Reason::Unknown(problem) => Error::Unknown { problem },
        Reason::Full(proto::Full { actual, limit, is_bytes }) => {
            Error::Full { what: if is_bytes { BYTES } else { COMMANDS }, actual, limit }
        }
        Reason::TooLarge(proto::TooLarge { actual, limit }) => Error::TooLarge { actual, limit },
        // The leader's disk is not this node's: here it is a leader that is not there.
        Reason::Stopped(problem) => Error::Stopped { problem, code: Code::Unavailable },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Member;

    #[test]
    fn every_error_crosses_the_wire() {
        let member = Member { endpoints: vec!["a:1".to_owned()], incarnation: 9 };
        let errors = [
            Error::NotLeader { leader: Some((3, member)) },
            Error::NotLeader { leader: None },
            Error::Unknown { problem: "lost".to_owned() },
            Error::Full { what: COMMANDS, actual: 5, limit: 4 },
            Error::Full { what: BYTES, actual: 5, limit: 4 },
            Error::TooLarge { actual: 5, limit: 4 },
            Error::Stopped { problem: "disk".to_owned(), code: Code::Unavailable },
        ];
        for error in errors {
            let read = read_propose_reply(propose_reply(Err(error.clone()))).unwrap().unwrap_err();
            assert_eq!(read.to_string(), error.to_string());
            let read = read_read_index(&read_index(&Err(error.clone()))).unwrap().unwrap_err();
            assert_eq!(format!("{read:?}"), format!("{error:?}"));
        }
    }

    #[test]
    fn answers_cross_the_wire() {
        let answer = Bytes::from_static(b"done");
        let read = read_propose_reply(propose_reply(Ok(answer.clone()))).unwrap().unwrap();
        assert_eq!(read, answer);
        assert_eq!(read_read_index(&read_index(&Ok(7))).unwrap().unwrap(), 7);
        let told = Hello {
            term: 3,
            last: Some(5),
            leader: None,
            founders: Some(9),
            is_led: true,
            incarnation: 11,
            founding: Some(12),
        };
        assert_eq!(read_hello(&hello(&told)).unwrap(), told);
    }
}
