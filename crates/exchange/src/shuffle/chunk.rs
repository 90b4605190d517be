//! One received chunk: the one place that knows where its bytes are.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_flight::{Budget, Message, Piece};

use super::error::Error;
use super::spill::SpillFile;
use crate::checksum;

/// Memory of a chunk besides its bytes, for as long as these are in memory:
/// what holds them, and what the budget keeps of each piece.
const CHUNK_OVERHEAD: u64 = 320;

/// Memory that stays of a chunk until its attempt goes, wherever its bytes are:
/// its entry, its place in the order of reading, and what both grow ahead.
pub(super) const ENTRY_OVERHEAD: u64 = 72;

/// Up to this size a message moves into memory of exactly its size.
const SMALL: usize = 64 << 10;

/// The CRC32C (Castagnoli) of a message: of its header and then its body, as
/// they are on the wire, without its metadata and the frame around it.
pub fn crc32c_of(message: &Message) -> u32 {
    let parts = std::iter::once(&message.header).chain(&message.body);
    parts.fold(0, |crc, part| checksum::append(crc, part))
}

/// Bytes that are counted in a budget until this goes.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Account {
    /// Nothing so far.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Account { budget: Arc::clone(budget), bytes: 0 }
    }

    /// So many more, or none where there is no room.
    pub(super) fn more(&mut self, bytes: u64) -> Result<(), Error> {
        self.budget.hold(&[], bytes).map_err(Error::Memory)?;
        self.bytes += bytes;
        Ok(())
    }

    /// So many less.
    pub(super) fn less(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.budget.release(&[], bytes);
        self.bytes -= bytes;
    }

    /// What another one counts is counted here from now on.
    pub(super) fn take_over(&mut self, mut other: Account) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.release(&[], self.bytes);
    }
}

/// A message in memory, counted in the budget until its last holder lets it go.
#[derive(Debug)]
pub(super) struct Chunk {
    budget: Arc<Budget>,
    message: Message,
}

impl Chunk {
    /// Counts a message, and `ENTRY_OVERHEAD` for `entries`, or neither.
    pub(super) fn try_new(entries: &mut Account, message: Message) -> Result<Arc<Self>, Error> {
        let (budget, message) = (Arc::clone(&entries.budget), compact(message));
        let held = budget.hold(&pieces_of(&message), CHUNK_OVERHEAD + ENTRY_OVERHEAD);
        held.map_err(Error::Memory)?;
        entries.bytes += ENTRY_OVERHEAD;
        Ok(Arc::new(Chunk { budget, message }))
    }

    /// The message, which shares its memory.
    pub(super) fn message(&self) -> &Message {
        &self.message
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Its addresses are free in the budget before they are free in memory.
        self.budget.release(&pieces_of(&self.message), CHUNK_OVERHEAD);
    }
}

/// What an attempt keeps of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its CRC32C.
    pub(super) crc: u32,
    /// Bytes of header and body.
    pub(super) bytes: u32,
    pub(super) place: Place,
}

/// Where the bytes of a chunk are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// They were consumed.
    Gone,
    Memory(Arc<Chunk>),
    /// `at` counts units of a spill file.
    Disk {
        file: Arc<SpillFile>,
        at: u32,
    },
}

impl Entry {
    /// The message where it is in memory.
    pub(super) fn in_memory(&self) -> Option<Message> {
        match &self.place {
            Place::Memory(chunk) => Some(chunk.message.clone()),
            Place::Gone | Place::Disk { .. } => None,
        }
    }

    /// The message. Blocks while it is read from disk, and what was read counts
    /// in `budget` until it goes, where there is room.
    pub(super) fn read(&self, budget: &Arc<Budget>) -> Result<Message, Error> {
        match &self.place {
            Place::Memory(chunk) => Ok(chunk.message.clone()),
            Place::Disk { file, at } => file.read(*at, self.bytes, self.crc, budget),
            Place::Gone => Err(Error::Protocol("a chunk was consumed".to_owned())),
        }
    }

    /// Bytes that are in memory.
    pub(super) fn resident(&self) -> u64 {
        match self.place {
            Place::Memory(_) => u64::from(self.bytes),
            Place::Gone | Place::Disk { .. } => 0,
        }
    }

    /// Bytes that are on disk.
    pub(super) fn spilled(&self) -> u64 {
        match self.place {
            Place::Disk { .. } => u64::from(self.bytes),
            Place::Gone | Place::Memory(_) => 0,
        }
    }
}

pub(super) fn pieces_of(message: &Message) -> Vec<Piece> {
    let parts = std::iter::once(&message.header).chain(&message.body);
    let used = parts.filter(|bytes| !bytes.is_empty());
    used.map(|bytes| (bytes.as_ptr().addr(), bytes.len())).collect()
}

/// What arrives from a network is often a corner of a larger buffer, which it
/// would keep alive: small messages move, of large ones the header does.
fn compact(message: Message) -> Message {
    let (header, body) = (message.header.len(), message.body_len());
    if header + body > SMALL {
        let header = Bytes::copy_from_slice(&message.header);
        return Message { header, app_metadata: Bytes::new(), body: message.body };
    }
    // The body first: where it begins it is aligned.
    let mut all = Vec::with_capacity(header + body);
    message.body.iter().for_each(|piece| all.extend_from_slice(piece));
    all.extend_from_slice(&message.header);
    let all = Bytes::from(all);
    Message::new(all.slice(body..), all.slice(..body))
}
