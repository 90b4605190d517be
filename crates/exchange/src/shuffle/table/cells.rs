//! The senders of a partition: some bytes for each of them, and no more.

use super::super::chunk::Account;
use super::super::error::Error;
use super::attempt::{Attempt, Open};

/// Cells that are made together.
const PAGE: u32 = 64;

/// What is lost in an allocation, at most.
const ALLOCATION: u64 = 16;

/// One sender.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The newest attempt that has begun.
    pub(super) fence: u64,
    /// Chunks of what readers see that have their place in the order of reading.
    pub(super) read: u32,
    pub(super) committed: Option<Attempt>,
    /// The newest attempt, until it commits.
    pub(super) open: Option<Box<Open>>,
}

impl Cell {
    /// What readers see.
    pub(super) fn seen(&self) -> Option<&Attempt> {
        self.committed.as_ref().or_else(|| self.open.as_deref().map(|open| &open.attempt))
    }

    pub(super) fn seen_mut(&mut self) -> Option<&mut Attempt> {
        let open = self.open.as_deref_mut().map(|open| &mut open.attempt);
        self.committed.as_mut().or(open)
    }

    /// All that there is, whether readers see it or not.
    pub(super) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.committed.iter().chain(self.open.as_deref().map(|open| &open.attempt))
    }

    pub(super) fn attempts_mut(&mut self) -> impl Iterator<Item = &mut Attempt> {
        self.committed.iter_mut().chain(self.open.as_deref_mut().map(|open| &mut open.attempt))
    }

    pub(super) fn has_unread(&self) -> bool {
        self.seen().is_some_and(|attempt| (self.read as usize) < attempt.chunks.len())
    }
}

/// Cells by the number of their sender. Those that nobody has begun take no
/// memory but for the rest of a page.
#[derive(Debug)]
pub(super) struct Cells {
    senders: u32,
    pages: Box<[Box<[Cell]>]>,
}

impl Cells {
    pub(super) fn try_new(account: &mut Account, senders: u32) -> Result<Self, Error> {
        let pages = senders.div_ceil(PAGE) as usize;
        account.more((pages * size_of::<Box<[Cell]>>()) as u64 + ALLOCATION)?;
        let pages = (0..pages).map(|_| Box::default()).collect();
        Ok(Cells { senders, pages })
    }

    pub(super) fn get(&self, sender: u32) -> Option<&Cell> {
        let cell = self.pages.get((sender / PAGE) as usize)?.get((sender % PAGE) as usize);
        cell.filter(|cell| cell.seen().is_some())
    }

    pub(super) fn get_mut(&mut self, sender: u32) -> Option<&mut Cell> {
        let cell = self.pages.get_mut((sender / PAGE) as usize)?.get_mut((sender % PAGE) as usize);
        cell.filter(|cell| cell.seen().is_some())
    }

    /// The cell of a sender that begins.
    pub(super) fn make(
        &mut self,
        account: &mut Account,
        sender: u32,
    ) -> Result<Option<&mut Cell>, Error> {
        let cells = PAGE.min(self.senders.saturating_sub(sender / PAGE * PAGE));
        let Some(page) = self.pages.get_mut((sender / PAGE) as usize) else { return Ok(None) };
        if page.is_empty() {
            account.more(u64::from(cells) * size_of::<Cell>() as u64 + ALLOCATION)?;
            *page = (0..cells).map(|_| Cell::default()).collect();
        }
        Ok(page.get_mut((sender % PAGE) as usize))
    }

    /// Those that have begun, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Cell)> {
        self.from(0)
    }

    /// The same from a sender on.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = (u32, &Cell)> {
        let pages = (0..self.senders).step_by(PAGE as usize).zip(&self.pages);
        let pages = pages.skip((first / PAGE) as usize);
        let cells = pages.flat_map(|(start, page)| (start..).zip(page));
        cells.filter(move |(sender, cell)| *sender >= first && cell.seen().is_some())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.pages.iter_mut().flatten().filter(|cell| cell.seen().is_some())
    }
}
