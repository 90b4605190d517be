//! What one attempt of one sender has delivered.

use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::ipc::{Kind, StreamValidator};
use sheaf_flight::{Budget, Message};

use super::super::chunk::{Account, Chunk, ENTRY_OVERHEAD, Entry, Place};
use super::super::error::Error;
use super::super::key::{PartitionKey, Sender, Totals};
use super::super::metrics::{CountedOpen, Counts};
use crate::checksum;

/// Memory of an attempt that has not committed, without its chunks.
pub(super) const OPEN_OVERHEAD: u64 = 512;

/// Most chunks of an attempt: what stays of one that was consumed is small, not nothing.
const MAX_CHUNKS: u64 = 1 << 20;

/// Chunks of one attempt. There may be very many of these: each byte counts.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    /// CRC32C of the checksums of all chunks.
    pub(super) checksum: u32,
    pub(super) chunks: Vec<Entry>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Attempt {
    fn new(number: u64) -> Self {
        Attempt { number, checksum: 0, chunks: Vec::new(), rows: 0, bytes: 0 }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.chunks.len() as u64
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { chunks: self.next_sequence(), rows: self.rows }
    }

    /// Memory that its chunks are counted with besides their bytes.
    pub(super) fn overhead(&self) -> u64 {
        self.chunks.len() as u64 * ENTRY_OVERHEAD
    }

    /// Whether a chunk is here already; an error where it is neither that one
    /// nor the next.
    pub(super) fn has(
        &self,
        key: &PartitionKey,
        sender: u32,
        sequence: u64,
        crc: u32,
        bytes: usize,
    ) -> Result<bool, Error> {
        let (key, expected) = (|| key.clone(), self.next_sequence());
        let known = usize::try_from(sequence).ok().and_then(|at| self.chunks.get(at));
        match known {
            Some(known) if known.crc == crc && known.bytes as usize == bytes => Ok(true),
            Some(_) => Err(Error::Different { key: key(), sender, sequence }),
            None if sequence == expected => Ok(false),
            None => Err(Error::Gap { key: key(), sender, sequence, expected }),
        }
    }

    /// Checks totals, of which a commit that comes again has to have the same.
    pub(super) fn check_totals(
        &self,
        key: &PartitionKey,
        sender: u32,
        said: Totals,
    ) -> Result<(), Error> {
        let found = self.totals();
        if said == found {
            return Ok(());
        }
        Err(Error::Totals { key: key.clone(), sender, said, found })
    }
}

/// An attempt until it commits.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) attempt: Attempt,
    /// What has come is a valid stream so far; otherwise why nothing more is taken.
    stream: Result<StreamValidator, &'static str>,
    account: Account,
    /// When something of it came, as told.
    pub(super) touched: Duration,
    counted: Option<CountedOpen>,
}

const BROKEN: &str = "its stream was broken before";
const IDLE: &str = "nothing of it came for so long that its chunks were dropped";

impl Open {
    /// `stream` has seen the schema, and nothing else.
    pub(super) fn try_new(
        budget: &Arc<Budget>,
        counts: &Counts,
        number: u64,
        stream: StreamValidator,
    ) -> Result<Box<Self>, Error> {
        let mut account = Account::new(budget);
        account.more(OPEN_OVERHEAD)?;
        let (attempt, stream, touched) = (Attempt::new(number), Ok(stream), Duration::ZERO);
        let counted = Some(CountedOpen::new(counts));
        Ok(Box::new(Open { attempt, stream, account, touched, counted }))
    }

    /// Takes a chunk that is the next one; its rows.
    pub(super) fn push(
        &mut self,
        key: &PartitionKey,
        sender: Sender,
        sequence: u64,
        crc: u32,
        message: Message,
    ) -> Result<u64, Error> {
        let refuse =
            |problem| Err(Error::State { key: key.clone(), sender: sender.index, problem });
        if sequence >= MAX_CHUNKS {
            return refuse(format!("chunk {sequence} is over the limit of {MAX_CHUNKS} chunks"));
        }
        let stream = match &mut self.stream {
            Ok(stream) => stream,
            Err(why) => return refuse(closed(why)),
        };
        let outline = sheaf_flight::ipc::inspect(&message.header)?;
        let rows = match outline.kind {
            Kind::RecordBatch => outline.rows,
            Kind::Dictionary { .. } => 0,
            Kind::Schema | Kind::Metadata => {
                return refuse(format!("chunk {sequence} is a {}", outline.kind));
            }
        };
        let length = message.header.len() + message.body_len();
        let Ok(bytes) = u32::try_from(length) else {
            let (key, limit) = (key.clone(), u32::MAX as usize);
            return Err(Error::TooLarge { key, bytes: length, limit });
        };
        // Room first: a validator that has seen a message cannot forget it.
        let chunk = Chunk::try_new(&mut self.account, message)?;
        if let Err(error) = stream.check(chunk.message()) {
            self.account.less(ENTRY_OVERHEAD);
            self.close(BROKEN);
            return Err(error.into());
        }
        let attempt = &mut self.attempt;
        attempt.rows = attempt.rows.saturating_add(rows);
        attempt.bytes += u64::from(bytes);
        attempt.checksum = checksum::append(attempt.checksum, &crc.to_le_bytes());
        attempt.chunks.push(Entry { crc, bytes, place: Place::Memory(chunk) });
        Ok(rows)
    }

    /// That it may commit with these totals.
    pub(super) fn check_commit(
        &self,
        key: &PartitionKey,
        sender: u32,
        said: Totals,
    ) -> Result<(), Error> {
        self.attempt.check_totals(key, sender, said)?;
        if let Err(why) = &self.stream {
            return Err(Error::State { key: key.clone(), sender, problem: closed(why) });
        }
        Ok(())
    }

    /// Nothing more is taken.
    fn close(&mut self, why: &'static str) {
        self.stream = Err(why);
        self.counted = None;
    }

    /// Its sender is taken for dead: what it sent goes. Whether there was anything.
    pub(super) fn end_idle(&mut self) -> bool {
        if self.stream.is_err() && self.attempt.chunks.is_empty() {
            return false;
        }
        self.close(IDLE);
        self.account.less(self.attempt.overhead());
        self.attempt = Attempt::new(self.attempt.number);
        true
    }

    /// What is left of it when it commits: its chunks, which `account` counts.
    pub(super) fn into_attempt(self, account: &mut Account) -> Attempt {
        let Open { mut attempt, account: mut its, .. } = self;
        its.less(OPEN_OVERHEAD);
        account.take_over(its);
        attempt.chunks.shrink_to_fit();
        attempt
    }
}

fn closed(why: &str) -> String {
    format!("{why}; begin another attempt")
}
