//! One partition: its senders, and the order in which it is read.

use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::{Budget, Message};

use super::super::chunk::{Account, Entry, Place};
use super::super::error::Error;
use super::super::key::{PartitionKey, Sender, Totals};
use super::super::metrics::{Counted, Counts, Gauged};
use super::attempt::{Attempt, Open};
use super::cells::{Cell, Cells};
use super::lead::Lead;
use super::schema::SchemaOf;
use crate::checksum;

/// Memory of a partition without its senders and chunks: itself, its place in a
/// node that may be half full, and its part of what knows its query.
const PARTITION_OVERHEAD: u64 = 3 * size_of::<Partition>() as u64 + 128;

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
    Chunk(Entry, u32),
    /// Nothing yet; the first sender that has not committed.
    Wait(u32),
    /// Everything was read: what there was.
    End(Totals),
}

/// One partition.
#[derive(Debug)]
pub(in super::super) struct Partition {
    pub(super) incarnation: u64,
    schema: Arc<SchemaOf>,
    senders: u32,
    committed: u32,
    /// Attempts that have not committed.
    pub(super) open: u32,
    pub(super) cells: Cells,
    /// Who sent each chunk that was read, and which of theirs it is.
    pub(super) order: Vec<(u32, u32)>,
    /// So many at the front were consumed.
    pub(super) consumed: usize,
    /// A reader has seen the end.
    is_over: bool,
    /// Where the schema has dictionaries: so many of those that lead its stage were
    /// read to their end.
    led: usize,
    /// Bytes of chunks that are in memory.
    pub(super) resident: Gauged,
    /// Bytes of chunks that are on disk.
    pub(super) spilled: u64,
    account: Account,
    _counted: Counted,
}

impl Partition {
    /// Where `schema` is the same, it is shared.
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        counts: &Counts,
        incarnation: u64,
        key: &PartitionKey,
        sender: Sender,
        schema: Arc<SchemaOf>,
    ) -> Result<Self, Error> {
        let mut account = Account::new(budget);
        account.more(PARTITION_OVERHEAD + key.query().len() as u64)?;
        let senders = sender.senders;
        let cells = Cells::try_new(&mut account, senders)?;
        let (committed, order, consumed, is_over) = (0, Vec::new(), 0, false);
        Ok(Partition {
            incarnation,
            schema,
            senders,
            committed,
            open: 0,
            cells,
            order,
            consumed,
            is_over,
            led: 0,
            resident: Gauged::new(counts),
            spilled: 0,
            account,
            _counted: Counted::new(&counts.partitions),
        })
    }

    pub(super) fn schema(&self) -> &Arc<SchemaOf> {
        &self.schema
    }

    pub(super) fn begin(
        &mut self,
        budget: &Arc<Budget>,
        counts: &Counts,
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
        let Some(cell) = self.cells.get_mut(sender.index) else {
            let stream = self.schema.stream(key, schema)?;
            let open = Open::try_new(budget, counts, sender.attempt, stream)?;
            let made = self.cells.make(&mut self.account, sender.index)?;
            if let Some(cell) = made {
                (cell.fence, cell.open) = (sender.attempt, Some(open));
                self.open += 1;
            }
            return Ok(0);
        };
        check_fence(key, cell, sender)?;
        let same = |attempt: &&Attempt| attempt.number == sender.attempt;
        if let Some(attempt) = cell.attempts().find(same) {
            return Ok(attempt.next_sequence());
        }
        check_unread(key, cell, sender, is_over)?;
        let stream = self.schema.stream(key, schema)?;
        let open = Open::try_new(budget, counts, sender.attempt, stream)?;
        counts.attempts_replaced.inc();
        cell.fence = sender.attempt;
        match cell.open.replace(open) {
            Some(old) => self.forget(&old.attempt),
            None => self.open += 1,
        }
        Ok(0)
    }

    pub(super) fn has_begun(&self, sender: Sender) -> bool {
        let cell = self.cells.get(sender.index);
        cell.is_some_and(|cell| cell.attempts().any(|one| one.number == sender.attempt))
    }

    /// Takes a chunk; how many rows it has, where it is new.
    pub(super) fn push(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        sequence: u64,
        crc: u32,
        message: Message,
    ) -> Result<Option<u64>, Error> {
        let cell = cell_of(&mut self.cells, key, sender)?;
        let bytes = message.header.len() + message.body_len();
        let same = |attempt: &&Attempt| attempt.number == sender.attempt;
        let attempt = cell.attempts().find(same).ok_or_else(|| not_begun(key, sender))?;
        if attempt.has(key, sender.index, sequence, crc, bytes)? {
            return Ok(None);
        }
        let rows = match &mut cell.open {
            Some(open) => open.push(key, sender, sequence, crc, message)?,
            None => {
                let problem = format!("chunk {sequence} comes after the commit");
                return Err(Error::State { key: key.clone(), sender: sender.index, problem });
            }
        };
        self.resident += bytes as u64;
        Ok(Some(rows))
    }

    pub(super) fn commit(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        totals: Totals,
    ) -> Result<(), Error> {
        let is_over = self.is_over;
        let cell = cell_of(&mut self.cells, key, sender)?;
        let Some(open) = &cell.open else {
            // Once more.
            let committed = cell.committed.as_ref();
            let same = committed.filter(|attempt| attempt.number == sender.attempt);
            let same = same.ok_or_else(|| not_begun(key, sender))?;
            return same.check_totals(key, sender.index, totals);
        };
        if open.attempt.number != sender.attempt {
            return Err(not_begun(key, sender));
        }
        open.check_commit(key, sender.index, totals)?;
        if cell.committed.is_some() {
            // It may have been read since this attempt began.
            if let Err(error) = check_unread(key, cell, sender, is_over) {
                if let Some(dropped) = cell.open.take() {
                    self.open -= 1;
                    self.forget(&dropped.attempt);
                }
                return Err(error);
            }
        } else {
            self.committed += 1;
        }
        self.open -= 1;
        let committed = cell.open.take().map(|open| open.into_attempt(&mut self.account));
        if let Some(old) = std::mem::replace(&mut cell.committed, committed) {
            self.account.less(old.overhead());
            self.forget(&old);
        }
        Ok(())
    }

    /// Something of a sender came.
    pub(super) fn touch(&mut self, sender: u32, now: Duration) {
        if let Some(open) = self.cells.get_mut(sender).and_then(|cell| cell.open.as_mut()) {
            open.touched = now;
        }
    }

    /// Drops what attempts have sent of which nothing came for `limit`, unless it
    /// was read; how many they were.
    pub(super) fn end_idle(&mut self, now: Duration, limit: Duration) -> u64 {
        if self.open == 0 {
            return 0;
        }
        let (mut ended, mut resident, mut spilled) = (0, 0, 0);
        for cell in self.cells.iter_mut() {
            let is_unread = cell.committed.is_some() || cell.read == 0;
            let Some(open) = cell.open.as_mut().filter(|_| is_unread) else { continue };
            if now.saturating_sub(open.touched) < limit {
                continue;
            }
            resident += open.attempt.chunks.iter().map(Entry::resident).sum::<u64>();
            spilled += open.attempt.chunks.iter().map(Entry::spilled).sum::<u64>();
            ended += u64::from(open.end_idle());
        }
        self.resident -= resident;
        self.spilled -= spilled;
        ended
    }

    /// An attempt goes.
    fn forget(&mut self, attempt: &Attempt) {
        for entry in &attempt.chunks {
            self.resident -= entry.resident();
            self.spilled -= entry.spilled();
        }
    }

    pub(super) fn next(
        &mut self,
        key: &PartitionKey,
        position: u64,
        mode: Mode,
        lead: &mut Lead,
    ) -> Result<Step, Error> {
        if mode == Mode::Complete
            && let Some(missing) = self.missing()
        {
            let (committed, senders) = (self.committed, self.senders);
            return Err(Error::NotReady { key: key.clone(), committed, senders, missing });
        }
        let at = self.readable(key, position)?;
        if at == self.order.len() {
            match self.choose(lead) {
                Some(sender) => self.fix(sender),
                None => {
                    if let Some(missing) = self.awaited(lead).or_else(|| self.missing()) {
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
        let attempt = self.cells.get(sender).and_then(Cell::seen).ok_or_else(consumed)?;
        let entry = attempt.chunks.get(sequence as usize).ok_or_else(consumed)?;
        Ok(Step::Chunk(entry.clone(), sender))
    }

    /// The next chunk of a sender gets its place.
    fn fix(&mut self, sender: u32) {
        if let Some(cell) = self.cells.get_mut(sender) {
            self.order.push((sender, cell.read));
            cell.read += 1;
        }
    }

    /// Whose chunk is next; `None` where none is there.
    fn choose(&mut self, lead: &mut Lead) -> Option<u32> {
        if self.schema.has_dictionaries {
            return self.follow(lead);
        }
        let last = self.order.last().map(|(sender, _)| *sender);
        if last.and_then(|at| self.cells.get(at)).is_some_and(Cell::has_unread) {
            return last;
        }
        let after = last.map_or(0, |last| last + 1);
        let mut round = self.cells.from(after).chain(self.cells.iter());
        round.find(|(_, cell)| cell.has_unread()).map(|(sender, _)| sender)
    }

    /// The same where one sender is read to its end before the next: all partitions
    /// of a stage take them in one order, so that memory for one of them is enough.
    fn follow(&mut self, lead: &mut Lead) -> Option<u32> {
        loop {
            let Some(sender) = lead.get(self.led) else {
                // The lowest: so do the partitions of other workers.
                let mut begun = self.cells.iter();
                let next = begun.find(|(_, cell)| cell.committed.is_none() || cell.has_unread());
                lead.add(next?.0);
                continue;
            };
            match self.cells.get(sender) {
                Some(cell) if cell.has_unread() => return Some(sender),
                Some(cell) if cell.committed.is_some() => self.led += 1,
                _ => return None,
            }
        }
    }

    /// Who is to be read to the end first.
    fn awaited(&self, lead: &Lead) -> Option<u32> {
        lead.get(self.led).filter(|sender| self.schema.has_dictionaries && !self.has_all(*sender))
    }

    /// Whether a sender has committed.
    pub(super) fn has_all(&self, sender: u32) -> bool {
        self.cells.get(sender).is_some_and(|cell| cell.committed.is_some())
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

    /// Lets go of the chunks before a position, which were read: what holds them.
    pub(super) fn consume(
        &mut self,
        key: &PartitionKey,
        position: u64,
    ) -> Result<Vec<Place>, Error> {
        if position <= self.consumed as u64 {
            return Ok(Vec::new());
        }
        let until = self.readable(key, position)?;
        let mut freed = Vec::new();
        for (sender, sequence) in &self.order[self.consumed..until] {
            let attempt = self.cells.get_mut(*sender).and_then(Cell::seen_mut);
            let entry = attempt.and_then(|attempt| attempt.chunks.get_mut(*sequence as usize));
            if let Some(entry) = entry {
                self.resident -= entry.resident();
                self.spilled -= entry.spilled();
                freed.push(std::mem::replace(&mut entry.place, Place::Gone));
            }
        }
        self.consumed = until;
        Ok(freed)
    }

    /// The first sender that has not committed.
    fn missing(&self) -> Option<u32> {
        if self.committed == self.senders {
            return None;
        }
        (0..self.senders).find(|index| !self.has_all(*index))
    }

    /// Of what readers see.
    pub(super) fn totals(&self) -> Totals {
        self.sums().0
    }

    /// Of what readers see, and its bytes.
    pub(super) fn sums(&self) -> (Totals, u64) {
        let seen = self.cells.iter().filter_map(|(_, cell)| cell.seen());
        seen.fold((Totals::default(), 0), |(sum, bytes), one| {
            let chunks = sum.chunks + one.next_sequence();
            let rows = sum.rows.saturating_add(one.rows);
            (Totals { chunks, rows }, bytes + one.bytes)
        })
    }

    /// Of all chunks by sender, whatever their attempts; the order of reading
    /// does not matter.
    pub(super) fn checksum(&self) -> u32 {
        let mut checksum = 0;
        for (sender, cell) in self.cells.iter() {
            let Some(attempt) = cell.seen() else { continue };
            checksum = checksum::append(checksum, &sender.to_le_bytes());
            checksum = checksum::append(checksum, &attempt.checksum.to_le_bytes());
        }
        checksum
    }

    pub(super) fn senders(&self) -> (u32, u32) {
        (self.committed, self.senders)
    }
}

/// The cell of a sender whose attempt is the newest.
fn cell_of<'a>(
    cells: &'a mut Cells,
    key: &PartitionKey,
    sender: Sender,
) -> Result<&'a mut Cell, Error> {
    let cell = cells.get_mut(sender.index).ok_or_else(|| not_begun(key, sender))?;
    check_fence(key, cell, sender)?;
    Ok(cell)
}

fn not_begun(key: &PartitionKey, sender: Sender) -> Error {
    let problem = format!("attempt {} has not begun here", sender.attempt);
    Error::State { key: key.clone(), sender: sender.index, problem }
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
