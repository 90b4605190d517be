//! What the two ends tell each other.

use bytes::Bytes;
use prost::Message as _;
use sheaf_coordinator::migration::{Head, Migration, Phase, Queue, Record};
use sheaf_coordinator::{Error, Fence, History, Run};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::storage::v1::{self as storage, QueueRecord};
use sheaf_retry::Timestamp;

use super::PART_BYTES;
use crate::coordinator::snapshot;

/// Of both messages; another one is refused.
const VERSION: u32 = 1;

/// One call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Step", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    step: Option<Step>,
}

/// Which, with what belongs to it. What needs nothing says `true`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Step {
    #[prost(bool, tag = "2")]
    Name(bool),
    #[prost(bool, tag = "3")]
    Phase(bool),
    #[prost(bytes = "bytes", tag = "4")]
    Enter(Bytes),
    #[prost(bool, tag = "5")]
    Head(bool),
    #[prost(uint64, tag = "6")]
    Read(u64),
    #[prost(message, tag = "7")]
    Fill(FillMessage),
    #[prost(message, tag = "8")]
    Write(RecordsMessage),
    #[prost(bool, tag = "9")]
    Discard(bool),
}

/// The answer to one call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Reply {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Told", tags = "2, 3, 4, 5, 6, 7")]
    told: Option<Told>,
}

/// What belongs to it.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Told {
    #[prost(string, tag = "2")]
    Name(String),
    #[prost(bytes = "bytes", tag = "3")]
    Phase(Bytes),
    #[prost(message, tag = "4")]
    Head(HeadMessage),
    #[prost(message, tag = "5")]
    Records(RecordsMessage),
    #[prost(uint64, tag = "6")]
    Last(u64),
    #[prost(bool, tag = "7")]
    Done(bool),
}

/// The head of a state.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeadMessage {
    #[prost(uint64, tag = "1")]
    batches: u64,
    #[prost(uint64, tag = "2")]
    leases: u64,
    #[prost(uint64, tag = "3")]
    last_fence: u64,
    #[prost(message, repeated, tag = "4")]
    queues: Vec<QueueRecord>,
    #[prost(message, repeated, tag = "5")]
    runs: Vec<proto::Run>,
}

/// How a target begins.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FillMessage {
    #[prost(message, optional, tag = "1")]
    migration: Option<storage::Migration>,
    #[prost(message, optional, tag = "2")]
    head: Option<HeadMessage>,
}

/// Batches in order.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecordsMessage {
    #[prost(message, repeated, tag = "1")]
    records: Vec<RecordMessage>,
}

/// One batch as it is stored, and the names of those that it waits for, in the same order.
#[derive(Clone, PartialEq, prost::Message)]
struct RecordMessage {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "bytes", tag = "2")]
    stored: Bytes,
    #[prost(string, repeated, tag = "3")]
    waits_for: Vec<String>,
}

fn invalid(problem: impl ToString) -> Error {
    Error::Invalid { field: "RaftMigrate", problem: problem.to_string() }
}

fn missing(what: &str) -> Error {
    invalid(format!("has no {what}; take both programs of the same version"))
}

fn same_version(version: u32) -> Result<(), Error> {
    if version == VERSION {
        return Ok(());
    }
    let problem = format!("is of version {version}, this program knows {VERSION}; take the same");
    Err(invalid(problem))
}

/// A call as bytes.
pub(super) fn request(step: Step) -> Bytes {
    Request { version: VERSION, step: Some(step) }.encode_to_vec().into()
}

/// Undoes [`request`].
pub(super) fn read_request(body: &Bytes) -> Result<Step, Error> {
    let request = Request::decode(body.clone()).map_err(invalid)?;
    same_version(request.version)?;
    request.step.ok_or_else(|| missing("call"))
}

/// An answer as bytes.
pub(super) fn reply(told: Told) -> Bytes {
    Reply { version: VERSION, told: Some(told) }.encode_to_vec().into()
}

/// Undoes [`reply`].
pub(super) fn read_reply(body: &Bytes) -> Result<Told, Error> {
    let reply = Reply::decode(body.clone()).map_err(invalid)?;
    same_version(reply.version)?;
    reply.told.ok_or_else(|| missing("answer"))
}

impl From<&Head> for HeadMessage {
    fn from(head: &Head) -> Self {
        HeadMessage {
            batches: head.batches,
            leases: head.leases,
            last_fence: head.last_fence.0,
            queues: head.queues.iter().map(Queue::to_stored).collect(),
            runs: head.history.runs.iter().map(proto::Run::from).collect(),
        }
    }
}

impl TryFrom<HeadMessage> for Head {
    type Error = Error;

    fn try_from(message: HeadMessage) -> Result<Self, Error> {
        let queue =
            |stored: &QueueRecord| Queue::from_stored(&stored.queue, &stored.encode_to_vec());
        let runs = message.runs.into_iter().map(Run::try_from).collect::<Result<_, _>>()?;
        Ok(Head {
            batches: message.batches,
            leases: message.leases,
            last_fence: Fence(message.last_fence),
            queues: message.queues.iter().map(queue).collect(),
            history: History { runs },
        })
    }
}

impl FillMessage {
    pub(super) fn new(migration: &Migration, head: &Head) -> Self {
        let phase = Phase::Filling(migration.clone());
        FillMessage { migration: phase.to_stored(), head: Some(head.into()) }
    }

    pub(super) fn read(self) -> Result<(Migration, Head), Error> {
        let (stored, head) = (self.migration, self.head);
        let phase = Phase::from_stored(stored.ok_or_else(|| missing("migration"))?)?;
        let migration = phase.migration().cloned().ok_or_else(|| missing("migration"))?;
        Ok((migration, head.ok_or_else(|| missing("head"))?.try_into()?))
    }
}

impl RecordsMessage {
    /// As many of the records as go into one message, and how many.
    pub(super) fn first_of(records: &[Record]) -> (Self, usize) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for record in records {
            if bytes >= PART_BYTES {
                break;
            }
            let stored = Bytes::from(record.to_stored());
            bytes += stored.len();
            let names = record.waits_for.iter().map(|waited| waited.id.to_string());
            let waits_for = names.collect();
            part.push(RecordMessage { sequence: record.sequence, stored, waits_for });
        }
        let count = part.len();
        (RecordsMessage { records: part }, count)
    }

    pub(super) fn read(self) -> Result<Vec<Record>, Error> {
        self.records.into_iter().map(RecordMessage::read).collect()
    }
}

impl RecordMessage {
    fn read(self) -> Result<Record, Error> {
        let record = Record::from_stored(self.sequence, &self.stored, Timestamp::EPOCH);
        let mut record = record.map_err(|version| {
            snapshot::newer("a batch", version, sheaf_coordinator::engine::RECORD_VERSION)
        })?;
        if record.waits_for.len() != self.waits_for.len() {
            return Err(missing("names of all batches that one waits for"));
        }
        for (waited, name) in record.waits_for.iter_mut().zip(&self.waits_for) {
            waited.id = name.parse().map_err(invalid)?;
        }
        Ok(record)
    }
}
