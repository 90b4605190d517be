//! One received chunk: the one place that knows where its bytes are.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_flight::{Budget, Message, Piece};

use super::error::Error;

/// Memory of a chunk besides its bytes: entries, counters, allocations.
const CHUNK_OVERHEAD: u64 = 256;

/// The CRC32C (Castagnoli) of a message: of its header and then its body, as
/// they are on the wire, without its metadata and the frame around it.
pub fn crc32c_of(message: &Message) -> u32 {
    let parts = std::iter::once(&message.header).chain(&message.body);
    parts.fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Bytes that are counted in a budget for as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    pieces: Vec<Piece>,
    overhead: u64,
}

impl Held {
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        pieces: Vec<Piece>,
        overhead: u64,
    ) -> Result<Self, Error> {
        budget.hold(&pieces, overhead).map_err(Error::Memory)?;
        Ok(Held { budget: Arc::clone(budget), pieces, overhead })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.release(&self.pieces, self.overhead);
    }
}

/// One message of a sender, counted in the budget until its last holder lets it go.
///
/// Its bytes are in memory. Spill would be a second place for them here, and
/// [`Chunk::message`] what reads them back.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Before the message, so that its address is free in the budget before it
    /// is free in memory.
    _held: Held,
    message: Message,
    pub(super) crc: u32,
}

impl Chunk {
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        message: Message,
        crc: u32,
    ) -> Result<Arc<Self>, Error> {
        let message = Message { app_metadata: Bytes::new(), ..message };
        let _held = Held::try_new(budget, pieces_of(&message), CHUNK_OVERHEAD)?;
        Ok(Arc::new(Chunk { _held, message, crc }))
    }

    /// The message, which shares its memory.
    pub(super) fn message(&self) -> Message {
        self.message.clone()
    }
}

pub(super) fn pieces_of(message: &Message) -> Vec<Piece> {
    let parts = std::iter::once(&message.header).chain(&message.body);
    let used = parts.filter(|bytes| !bytes.is_empty());
    used.map(|bytes| (bytes.as_ptr().addr(), bytes.len())).collect()
}
