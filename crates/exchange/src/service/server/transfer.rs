//! What one call sends, message by message.

use std::sync::Arc;

use sheaf_flight::Budget;
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_transfer_request::Message as Said;

use crate::service::chunk::{checked_size, unpack_aside};
use crate::service::codec::Compression;
use crate::service::schema::from_proto;
use crate::shuffle::{Error, Exchange, PartitionKey, Sender, Totals, UnderWay};

/// Bytes of payloads that a sender may have on their way where there is memory.
const WINDOW_BYTES: u64 = 8 << 20;

/// Takes the messages of one call.
#[derive(Debug)]
pub(super) struct Transfer {
    exchange: Exchange,
    _under_way: UnderWay,
    current: Option<Attempt>,
    /// A second begin is refused.
    is_of_one: bool,
}

/// The attempt that was begun last.
#[derive(Debug)]
struct Attempt {
    key: PartitionKey,
    sender: Sender,
    next_sequence: u64,
    committed: bool,
}

impl Transfer {
    pub(super) fn new(exchange: Exchange) -> Self {
        let under_way = exchange.under_way();
        Transfer { exchange, _under_way: under_way, current: None, is_of_one: false }
    }

    /// The same for one attempt only.
    pub(super) fn of_one(self) -> Self {
        Transfer { is_of_one: true, ..self }
    }

    /// Takes a message; the answer to it.
    pub(super) async fn take(
        &mut self,
        request: proto::DataTransferRequest,
    ) -> Result<proto::DataTransferResponse, Error> {
        let empty = || Error::Protocol("a message is neither begin nor chunk nor commit".into());
        let is_new = match request.message.ok_or_else(empty)? {
            Said::Begin(begin) => self.begin(&begin)?,
            Said::Chunk(chunk) => self.chunk(chunk).await?,
            Said::Commit(commit) => self.commit(commit)?,
        };
        let current = self.current.as_ref().ok_or_else(no_begin)?;
        let budget = self.exchange.budget();
        Ok(proto::DataTransferResponse {
            next_sequence: current.next_sequence,
            committed: current.committed,
            repeated_chunks: u64::from(!is_new),
            credit_bytes: budget.limit().saturating_sub(budget.used()).min(WINDOW_BYTES),
        })
    }

    fn begin(&mut self, begin: &proto::TransferBegin) -> Result<bool, Error> {
        if self.is_of_one && self.current.is_some() {
            let text = "a second begin in one call; StreamData takes several attempts";
            return Err(Error::Protocol(text.to_owned()));
        }
        let key = PartitionKey::try_new(&begin.query, begin.stage, begin.partition)?;
        let proto::TransferBegin { sender: index, attempt, senders, .. } = *begin;
        let sender = Sender { index, attempt, senders };
        let no_schema = || Error::Protocol("a begin without a schema".to_owned());
        let schema = from_proto(begin.schema.as_ref().ok_or_else(no_schema)?)?;
        let next_sequence = self.exchange.begin(&key, sender, &schema)?;
        self.current = Some(Attempt { key, sender, next_sequence, committed: false });
        Ok(true)
    }

    /// Whether it is new.
    async fn chunk(&mut self, chunk: proto::DataChunk) -> Result<bool, Error> {
        let Some(current) = &mut self.current else { return Err(no_begin()) };
        let (sequence, sender) = (chunk.sequence, chunk.sender);
        if current.committed {
            return Err(Error::Protocol(format!("chunk {sequence} comes after the commit")));
        }
        if sender != 0 && sender != current.sender.index {
            let begun = current.sender.index;
            let text = format!("chunk {sequence} is of sender {sender}, sender {begun} has begun");
            return Err(Error::Protocol(text));
        }
        // What is unfolded has its place before it is there.
        let size = checked_size(&chunk)?;
        self.exchange.make_room(size as u64).await;
        let is_folded = Compression::from_proto(chunk.compression)? != Compression::None;
        let room = is_folded.then(|| Room::try_new(self.exchange.budget(), size)).transpose()?;
        let message = unpack_aside(chunk).await?;
        drop(room);
        let Attempt { key, sender, .. } = current;
        self.exchange.admit(key, *sender, &message)?;
        let is_new = self.exchange.push(key, *sender, sequence, None, message)?;
        current.next_sequence = current.next_sequence.max(sequence.saturating_add(1));
        Ok(is_new)
    }

    fn commit(&mut self, commit: proto::TransferCommit) -> Result<bool, Error> {
        let current = self.current.as_mut().ok_or_else(no_begin)?;
        let totals = Totals { chunks: commit.chunks, rows: commit.rows };
        self.exchange.commit(&current.key, current.sender, totals)?;
        current.committed = true;
        Ok(true)
    }
}

fn no_begin() -> Error {
    Error::Protocol("the first message is no begin".to_owned())
}

/// Bytes that are kept free in the budget.
struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Room {
    fn try_new(budget: &Arc<Budget>, bytes: usize) -> Result<Self, Error> {
        let bytes = bytes as u64;
        budget.hold(&[], bytes).map_err(Error::Memory)?;
        Ok(Room { budget: Arc::clone(budget), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.release(&[], self.bytes);
    }
}
