//! One partition: its senders, and the order in which it is read.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use sheaf_flight::ipc::{decode_schema, encode_schema};
use sheaf_flight::{Budget, Message};
use twox_hash::XxHash3_64;

use super::super::chunk::{Chunk, Held, pieces_of};
use super::super::error::Error;
use super::super::key::{PartitionKey, Sender, Totals};
use super::attempt::Attempt;

/// Memory of a partition without its chunks, and of a sender without its attempts.
const PARTITION_OVERHEAD: u64 = 1_024;
const CELL_OVERHEAD: u64 = 256;

/// How a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mode {
    /// When all senders have committed.
    Complete,
    /// As it grows.
    Pipelined,
}

/// What a reader gets.
#[derive(Debug)]
pub(in super::super) enum Step {
    /// The chunk at its position, and who sent it.
    Chunk(Arc<Chunk>, u32),
    /// Nothing yet; the first sender that has not committed.
    Wait(u32),
    /// Everything was read: what there was.
    End(Totals),
}

/// What a schema message says, and who says it another way.
#[derive(Debug)]
pub(super) struct SchemaOf {
    message: Message,
    pub(super) fingerprint: u64,
    has_dictionaries: bool,
}

impl SchemaOf {
    fn read(message: &Message) -> Result<Self, Error> {
        // Not every type of the format can be decoded here, and need not be.
        let decoded = decode_schema(&message.header).ok();
        let fingerprint = match &decoded {
            Some(schema) => XxHash3_64::oneshot(&encode_schema(schema).header),
            None => XxHash3_64::oneshot(&message.header),
        };
        let has_dictionaries = decoded.as_ref().is_none_or(has_dictionaries);
        let message = Message { app_metadata: bytes::Bytes::new(), ..message.clone() };
        Ok(SchemaOf { message, fingerprint, has_dictionaries })
    }

    /// That another message says the same.
    fn check(&self, key: &PartitionKey, other: &Message) -> Result<(), Error> {
        if other.header == self.message.header {
            return Ok(());
        }
        let said = SchemaOf::read(other)?;
        // Where the messages differ, their dictionaries may have other numbers.
        if said.fingerprint == self.fingerprint && !self.has_dictionaries {
            return Ok(());
        }
        let problem = if said.fingerprint == self.fingerprint {
            "another sender encodes it another way, its dictionaries could be mistaken:"
        } else {
            "another sender has"
        };
        let (known, said) = (self.fingerprint, said.fingerprint);
        let (known, said) = (format!("{known:016x}"), format!("{said:016x}"));
        Err(Error::Schema { key: key.clone(), known, problem, said })
    }
}

fn has_dictionaries(schema: &Schema) -> bool {
    let is_dictionary = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..));
    schema.flattened_fields().iter().any(|field| is_dictionary(field.data_type()))
}

/// One sender.
#[derive(Debug)]
struct Cell {
    /// The newest attempt that has begun.
    fence: u64,
    committed: Option<Box<Attempt>>,
    /// The newest attempt, until it commits.
    open: Option<Box<Attempt>>,
    /// Chunks of what readers see that have their place in the order of reading.
    read: usize,
    _held: Held,
}

impl Cell {
    /// What readers see.
    fn seen(&self) -> Option<&Attempt> {
        self.committed.as_deref().or(self.open.as_deref())
    }

    fn has_unread(&self) -> bool {
        self.seen().is_some_and(|attempt| self.read < attempt.chunks.len())
    }
}

/// One partition.
#[derive(Debug)]
pub(in super::super) struct Partition {
    pub(super) incarnation: u64,
    schema: SchemaOf,
    senders: u32,
    committed: u32,
    cells: BTreeMap<u32, Cell>,
    /// Who sent each chunk that was read, and which of theirs it is.
    order: Vec<(u32, u32)>,
    /// So many at the front were consumed.
    consumed: usize,
    /// A reader has seen the end.
    is_over: bool,
    _held: Held,
}

impl Partition {
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        incarnation: u64,
        key: &PartitionKey,
        sender: Sender,
        schema: &Message,
    ) -> Result<Self, Error> {
        // What the attempt would refuse does not make a partition.
        drop(Attempt::try_new(budget, sender.attempt, schema)?);
        let schema = SchemaOf::read(schema)?;
        let overhead = PARTITION_OVERHEAD + key.query().len() as u64;
        let _held = Held::try_new(budget, pieces_of(&schema.message), overhead)?;
        let (cells, order) = Default::default();
        let senders = sender.senders;
        let (committed, consumed, is_over) = (0, 0, false);
        Ok(Partition {
            incarnation,
            schema,
            senders,
            committed,
            cells,
            order,
            consumed,
            is_over,
            _held,
        })
    }

    pub(super) fn schema(&self) -> Message {
        self.schema.message.clone()
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.schema.fingerprint
    }

    pub(super) fn begin(
        &mut self,
        budget: &Arc<Budget>,
        key: &PartitionKey,
        sender: Sender,
        schema: &Message,
    ) -> Result<u64, Error> {
        if sender.senders != self.senders {
            let (said, known) = (sender.senders, self.senders);
            return Err(Error::SenderCount { key: key.clone(), said, known });
        }
        self.schema.check(key, schema)?;
        let is_over = self.is_over;
        let Some(cell) = self.cells.get_mut(&sender.index) else {
            let attempt = Attempt::try_new(budget, sender.attempt, schema)?;
            let _held = Held::try_new(budget, Vec::new(), CELL_OVERHEAD)?;
            let (fence, open) = (sender.attempt, Some(Box::new(attempt)));
            self.cells.insert(sender.index, Cell { fence, committed: None, open, read: 0, _held });
            return Ok(0);
        };
        check_fence(key, cell, sender)?;
        let both = [cell.open.as_deref(), cell.committed.as_deref()];
        let same = |attempt: &&Attempt| attempt.number == sender.attempt;
        if let Some(attempt) = both.into_iter().flatten().find(same) {
            return Ok(attempt.next_sequence());
        }
        check_unread(key, cell, sender, is_over)?;
        let attempt = Attempt::try_new(budget, sender.attempt, schema)?;
        cell.fence = sender.attempt;
        cell.open = Some(Box::new(attempt));
        Ok(0)
    }

    pub(super) fn push(
        &mut self,
        budget: &Arc<Budget>,
        key: &PartitionKey,
        sender: Sender,
        sequence: u64,
        crc: u32,
        message: Message,
    ) -> Result<bool, Error> {
        let attempt = attempt_of(&mut self.cells, key, sender)?;
        attempt.push(budget, key, sender, sequence, crc, message)
    }

    pub(super) fn commit(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        totals: Totals,
    ) -> Result<(), Error> {
        attempt_of(&mut self.cells, key, sender)?.commit(key, sender.index, totals)?;
        let is_over = self.is_over;
        let Some(cell) = self.cells.get_mut(&sender.index) else { return Ok(()) };
        if cell.open.is_none() {
            return Ok(()); // Once more.
        }
        if cell.committed.is_some() {
            // It may have been read since this attempt began.
            if let Err(error) = check_unread(key, cell, sender, is_over) {
                cell.open = None;
                return Err(error);
            }
        } else {
            self.committed += 1;
        }
        cell.committed = cell.open.take();
        Ok(())
    }

    pub(super) fn next(
        &mut self,
        key: &PartitionKey,
        position: u64,
        mode: Mode,
    ) -> Result<Step, Error> {
        if mode == Mode::Complete
            && let Some(missing) = self.missing()
        {
            let (committed, senders) = (self.committed, self.senders);
            return Err(Error::NotReady { key: key.clone(), committed, senders, missing });
        }
        let at = self.readable(key, position)?;
        if at == self.order.len() {
            match self.choose() {
                Some(sender) => self.fix(sender),
                None => {
                    if let Some(missing) = self.missing() {
                        return Ok(Step::Wait(missing));
                    }
                    self.is_over = true;
                    return Ok(Step::End(self.totals()));
                }
            }
        }
        let consumed =
            || Error::Consumed { key: key.clone(), position, first: self.consumed as u64 };
        let (sender, sequence) = *self.order.get(at).ok_or_else(consumed)?;
        let attempt = self.cells.get(&sender).and_then(Cell::seen).ok_or_else(consumed)?;
        let chunk = attempt.chunks.get(sequence as usize).and_then(|entry| entry.chunk.clone());
        Ok(Step::Chunk(chunk.ok_or_else(consumed)?, sender))
    }

    /// The next chunk of a sender gets its place.
    fn fix(&mut self, sender: u32) {
        if let Some(cell) = self.cells.get_mut(&sender) {
            self.order.push((sender, u32::try_from(cell.read).unwrap_or(u32::MAX)));
            cell.read += 1;
        }
    }

    /// Whose chunk is next; `None` where none is there.
    fn choose(&self) -> Option<u32> {
        let last = self.order.last().map(|(sender, _)| *sender);
        if let Some((sender, cell)) = last.and_then(|last| self.cells.get_key_value(&last)) {
            if cell.has_unread() {
                return Some(*sender);
            }
            if self.schema.has_dictionaries && cell.committed.is_none() {
                return None;
            }
        }
        let after = last.map_or(Unbounded, Excluded);
        let round = self.cells.range((after, Unbounded)).chain(&self.cells);
        round.into_iter().find(|(_, cell)| cell.has_unread()).map(|(sender, _)| *sender)
    }

    /// A position that is there or is the next one.
    fn readable(&self, key: &PartitionKey, position: u64) -> Result<usize, Error> {
        let known = self.order.len();
        match usize::try_from(position) {
            Ok(at) if at < self.consumed => {
                let first = self.consumed as u64;
                Err(Error::Consumed { key: key.clone(), position, first })
            }
            Ok(at) if at <= known => Ok(at),
            _ => Err(Error::Position { key: key.clone(), position, known: known as u64 }),
        }
    }

    pub(super) fn consume(
        &mut self,
        key: &PartitionKey,
        position: u64,
    ) -> Result<Vec<Arc<Chunk>>, Error> {
        if position <= self.consumed as u64 {
            return Ok(Vec::new());
        }
        let until = self.readable(key, position)?;
        let mut freed = Vec::new();
        for (sender, sequence) in &self.order[self.consumed..until] {
            let cell = self.cells.get_mut(sender);
            let attempt = cell.and_then(|cell| cell.committed.as_mut().or(cell.open.as_mut()));
            let entry = attempt.and_then(|attempt| attempt.chunks.get_mut(*sequence as usize));
            freed.extend(entry.and_then(|entry| entry.chunk.take()));
        }
        self.consumed = until;
        Ok(freed)
    }

    /// The first sender that has not committed.
    fn missing(&self) -> Option<u32> {
        if self.committed == self.senders {
            return None;
        }
        let has = |index: &u32| self.cells.get(index).is_some_and(|cell| cell.committed.is_some());
        (0..self.senders).find(|index| !has(index))
    }

    /// Of what readers see.
    pub(super) fn totals(&self) -> Totals {
        let seen = self.cells.values().filter_map(Cell::seen).map(Attempt::totals);
        seen.fold(Totals::default(), |sum, one| Totals {
            chunks: sum.chunks + one.chunks,
            rows: sum.rows.saturating_add(one.rows),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cells.values().filter_map(Cell::seen).map(|attempt| attempt.bytes).sum()
    }

    /// Of all chunks by sender, whatever their attempts; the order of reading
    /// does not matter.
    pub(super) fn checksum(&self) -> u32 {
        let mut checksum = 0;
        for (sender, cell) in &self.cells {
            let Some(attempt) = cell.seen() else { continue };
            checksum = crc32c::crc32c_append(checksum, &sender.to_le_bytes());
            checksum = crc32c::crc32c_append(checksum, &attempt.checksum.to_le_bytes());
        }
        checksum
    }

    pub(super) fn senders(&self) -> (u32, u32) {
        (self.committed, self.senders)
    }
}

/// The attempt that a sender writes to, or has committed.
fn attempt_of<'a>(
    cells: &'a mut BTreeMap<u32, Cell>,
    key: &PartitionKey,
    sender: Sender,
) -> Result<&'a mut Attempt, Error> {
    let not_begun = || {
        let problem = format!("attempt {} has not begun here", sender.attempt);
        Error::State { key: key.clone(), sender: sender.index, problem }
    };
    let cell = cells.get_mut(&sender.index).ok_or_else(not_begun)?;
    check_fence(key, cell, sender)?;
    let attempt = cell.open.as_deref_mut().or(cell.committed.as_deref_mut());
    attempt.filter(|attempt| attempt.number == sender.attempt).ok_or_else(not_begun)
}

fn check_fence(key: &PartitionKey, cell: &Cell, sender: Sender) -> Result<(), Error> {
    if sender.attempt >= cell.fence {
        return Ok(());
    }
    let (key, attempt, newest) = (key.clone(), sender.attempt, cell.fence);
    Err(Error::Stale { key, sender: sender.index, attempt, newest })
}

fn check_unread(
    key: &PartitionKey,
    cell: &Cell,
    sender: Sender,
    is_over: bool,
) -> Result<(), Error> {
    let Some(seen) = cell.seen() else { return Ok(()) };
    if cell.read == 0 && !is_over {
        return Ok(());
    }
    let (key, attempt, read) = (key.clone(), sender.attempt, seen.number);
    Err(Error::AlreadyRead { key, sender: sender.index, attempt, read })
}
