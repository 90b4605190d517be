//! What one attempt of one sender has delivered.

use std::sync::Arc;

use sheaf_flight::ipc::{Kind, StreamValidator};
use sheaf_flight::{Budget, Message};

use super::super::chunk::{Chunk, Held};
use super::super::error::Error;
use super::super::key::{PartitionKey, Sender, Totals};

/// Memory of an attempt without its chunks.
const ATTEMPT_OVERHEAD: u64 = 512;

/// Most chunks of an attempt: what stays of one that was consumed is small, not nothing.
const MAX_CHUNKS: u64 = 1 << 20;

/// Chunks of one attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) chunks: Vec<Entry>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// CRC32C of the checksums of all chunks.
    pub(super) checksum: u32,
    state: State,
    _held: Held,
}

#[derive(Debug)]
enum State {
    /// What has come is a valid stream so far.
    Open(Box<StreamValidator>),
    /// Something came that no stream has; nothing more is taken.
    Broken,
    Committed,
}

/// One chunk, or what is left of it once it was consumed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) crc: u32,
    pub(super) bytes: usize,
    pub(super) chunk: Option<Arc<Chunk>>,
}

impl Attempt {
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        number: u64,
        schema: &Message,
    ) -> Result<Self, Error> {
        let mut validator = Box::<StreamValidator>::default();
        validator.check(schema)?;
        let _held = Held::try_new(budget, Vec::new(), ATTEMPT_OVERHEAD)?;
        let (chunks, state) = (Vec::new(), State::Open(validator));
        Ok(Attempt { number, chunks, rows: 0, bytes: 0, checksum: 0, state, _held })
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.chunks.len() as u64
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { chunks: self.next_sequence(), rows: self.rows }
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
        let (key, sender, expected) = (|| key.clone(), sender.index, self.next_sequence());
        let known = usize::try_from(sequence).ok().and_then(|at| self.chunks.get(at));
        let bytes = message.header.len() + message.body_len();
        if let Some(known) = known {
            if known.crc == crc && known.bytes == bytes {
                return Ok(false);
            }
            return Err(Error::Different { key: key(), sender, sequence });
        }
        if sequence != expected {
            return Err(Error::Gap { key: key(), sender, sequence, expected });
        }
        let refuse = |problem| Err(Error::State { key: key(), sender, problem });
        if sequence >= MAX_CHUNKS {
            return refuse(format!("chunk {sequence} is over the limit of {MAX_CHUNKS} chunks"));
        }
        let State::Open(validator) = &mut self.state else {
            return refuse(self.why_closed(sequence));
        };
        let outline = sheaf_flight::ipc::inspect(&message.header)?;
        let rows = match outline.kind {
            Kind::RecordBatch => outline.rows,
            Kind::Dictionary { .. } => 0,
            Kind::Schema | Kind::Metadata => {
                return refuse(format!("chunk {sequence} is a {}", outline.kind));
            }
        };
        // Room first: a validator that has seen a message cannot forget it.
        let chunk = Chunk::try_new(budget, message, crc)?;
        if let Err(error) = validator.check(&chunk.message()) {
            self.state = State::Broken;
            return Err(error.into());
        }
        self.rows = self.rows.saturating_add(rows);
        self.bytes += bytes as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &crc.to_le_bytes());
        self.chunks.push(Entry { crc, bytes, chunk: Some(chunk) });
        Ok(true)
    }

    /// Checks the totals, of which a commit that comes again has to have the same.
    pub(super) fn commit(
        &mut self,
        key: &PartitionKey,
        sender: u32,
        said: Totals,
    ) -> Result<(), Error> {
        let found = self.totals();
        if said != found {
            return Err(Error::Totals { key: key.clone(), sender, said, found });
        }
        if matches!(self.state, State::Broken) {
            let problem = self.why_closed(said.chunks);
            return Err(Error::State { key: key.clone(), sender, problem });
        }
        self.state = State::Committed;
        self.chunks.shrink_to_fit();
        Ok(())
    }

    fn why_closed(&self, sequence: u64) -> String {
        match self.state {
            State::Broken => "its stream was broken before; begin another attempt".to_owned(),
            State::Open(_) | State::Committed => format!("chunk {sequence} comes after the commit"),
        }
    }
}
