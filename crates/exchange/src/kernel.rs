//! Batches to the messages of each partition, with one copy of each row.

mod bits;
mod boolean;
mod bytes;
mod codec;
mod compact;
mod fixed;
mod grow;
mod lane;
mod options;
mod other;
mod plan;
mod seal;
mod spare;
mod views;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sheaf_flight::Message;

pub use codec::ChunkCompression;
pub use options::PartitionerOptions;
pub(crate) use plan::Plan;

use self::lane::{Block, Lane, Room, lane, row_bits};
use self::seal::Encoders;
use self::spare::Budget;
use crate::error::Error;
use crate::partition::{Assigner, Partitioning, check_schema};

/// Rows that are partitioned at once: their columns stay in the cache.
const BLOCK: usize = 8_192;

/// A block is halved until no partition gets more than this part of a chunk of
/// it, so that chunks are nearly full; but not where it has only a few rows.
const PARTS: usize = 8;
const FEW: usize = 64;

/// Rows of one partition, ready to be sent.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Which partition.
    pub partition: u32,
    /// Rows of all messages.
    pub rows: u64,
    /// Record batches, in most cases one; before them the dictionaries that are
    /// new in the stream of this partition. They are to be sent in this order,
    /// and those of one partition in the order in which they were sealed.
    pub messages: Vec<Message>,
}

/// Makes of the record batches of one stream the messages of one stream for
/// each partition.
///
/// Each stream begins with [`Partitioner::schema_message`]. Every row is in its
/// partition exactly once (in each one, for broadcast), and the rows of one
/// partition keep their order. The bodies of messages are in the layout of the
/// Arrow IPC format, their buffers at multiples of 64 bytes: where types have a
/// width, or are text or binary, values are copied once, to there. All other
/// types are taken by partition and put together when a chunk is sealed.
///
/// What is open, and what was let go and is kept for the next chunks, take at most
/// the memory that the options say, and one block of rows. What `push` returns is
/// the caller's; when nothing holds a message any more, on whatever thread, its
/// memory comes back.
pub struct Partitioner {
    schema: SchemaRef,
    first: Message,
    assigner: Assigner,
    /// For broadcast, the partitions that get the messages of the only one here.
    copies: u32,
    options: PartitionerOptions,
    encoders: Encoders,
    lanes: Vec<Box<dyn Lane>>,
    /// Bits of each row without what has no fixed width.
    row_bits: usize,
    /// Rows and bytes of each open chunk.
    rows: Vec<usize>,
    bytes: Vec<usize>,
    /// Bytes at which each open chunk is sealed.
    ceilings: Vec<usize>,
    /// Rows for which each one has memory.
    rooms: Vec<usize>,
    /// Memory of all open chunks, and what they share with spare memory.
    held: usize,
    budget: Arc<Budget>,
    /// Kept between blocks for their memory.
    plan: Plan,
    needed: Vec<usize>,
}

impl std::fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitioner")
            .field("schema", &self.schema)
            .field("options", &self.options)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Partitioner {
    /// A partitioner for batches of this schema.
    ///
    /// # Errors
    /// [`Error::PartitionCount`] for none or more than
    /// [`MAX_PARTITIONS`](crate::MAX_PARTITIONS) partitions, or more than one for
    /// [`Partitioning::Single`]; [`Error::NoKeys`], [`Error::NoSuchColumn`],
    /// [`Error::AmbiguousColumn`], [`Error::NoOrder`] and [`Error::Bounds`] for
    /// keys; [`Error::Option`] for limits; [`Error::Encode`] for types that the
    /// format or this build lacks.
    pub fn try_new(
        schema: SchemaRef,
        partitioning: Partitioning,
        partitions: usize,
        options: PartitionerOptions,
    ) -> Result<Self, Error> {
        options.check()?;
        let assigner = Assigner::try_new(&schema, &partitioning, partitions)?;
        let broadcast = matches!(partitioning, Partitioning::Broadcast);
        let copies = if broadcast { assigner.partitions() } else { 1 };
        let slots = if broadcast { 1 } else { partitions };
        let (encoders, first) = Encoders::try_new(&schema, options.compression, slots)?;
        let row_bits = schema.fields().iter().map(|field| row_bits(field.data_type())).sum();
        let rows = (options.chunk_bytes * 8).checked_div(row_bits).unwrap_or(usize::MAX);
        let rows = rows.clamp(1, options.chunk_rows);
        let share = options.chunk_bytes.min(options.open_bytes() / slots) / 2;
        let first_rows = (share * 8).checked_div(row_bits).unwrap_or(0).min(rows);
        let budget = Arc::new(Budget::new(options.memory_bytes));
        let room = Room {
            partitions: slots,
            rows,
            bytes: options.chunk_bytes,
            first_rows,
            first_bytes: share,
            budget: Arc::clone(&budget),
        };
        let lanes = schema.fields().iter().map(|field| lane(field.data_type(), &room)).collect();
        Ok(Partitioner {
            schema,
            first,
            assigner,
            copies,
            options,
            encoders,
            lanes,
            row_bits,
            rows: vec![0; slots],
            bytes: vec![0; slots],
            ceilings: first_ceilings(2 * share, slots),
            rooms: vec![0; slots],
            held: 0,
            budget,
            plan: Plan::default(),
            needed: vec![0; slots],
        })
    }

    /// The message with which the stream of every partition begins.
    pub fn schema_message(&self) -> Message {
        self.first.clone()
    }

    /// Bytes of memory of all that is open; what is kept for later is not in it.
    pub fn open_bytes(&self) -> usize {
        self.held
    }

    /// Takes the rows of a batch; gives what is full.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`], [`Error::Function`] and what a user's function
    /// fails with: the batch is not taken then, and others may follow.
    /// [`Error::Arrow`] and [`Error::Encode`] are no fault of a batch, and the
    /// partitioner is of no more use.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<Sealed>, Error> {
        check_schema(batch, &self.schema)?;
        let ids = self.assigner.assign(batch)?;
        let mut sealed = Vec::new();
        let mut from = 0;
        for ids in ids.chunks(BLOCK) {
            if ids.len() == batch.num_rows() {
                self.block(batch, ids, &mut sealed)?;
            } else {
                self.block(&batch.slice(from, ids.len()), ids, &mut sealed)?;
            }
            from += ids.len();
        }
        Ok(sealed)
    }

    /// Seals all that is open, in the order of the partitions; others may follow.
    ///
    /// # Errors
    /// As [`Partitioner::push`].
    pub fn flush(&mut self) -> Result<Vec<Sealed>, Error> {
        let mut sealed = Vec::new();
        for partition in 0..self.rows.len() {
            if self.rows[partition] > 0 {
                self.seal(partition, &mut sealed)?;
            }
        }
        Ok(sealed)
    }

    /// The end of the stream: what is still open.
    ///
    /// # Errors
    /// As [`Partitioner::push`].
    pub fn finish(mut self) -> Result<Vec<Sealed>, Error> {
        self.flush()
    }

    /// Takes a block whole, or each half of it where a partition could not hold
    /// its part.
    fn block(
        &mut self,
        batch: &RecordBatch,
        ids: &[u32],
        sealed: &mut Vec<Sealed>,
    ) -> Result<(), Error> {
        let slots = self.rows.len();
        self.plan.count(ids, slots);
        let (largest, unknown) = self.measure(batch, ids);
        let chunk = self.options.chunk_bytes;
        let too_large = largest.max(unknown) > chunk && ids.len() > 1;
        if too_large || (largest > chunk / PARTS && ids.len() > FEW) {
            let half = ids.len() / 2;
            self.block(&batch.slice(0, half), &ids[..half], sealed)?;
            return self.block(&batch.slice(half, ids.len() - half), &ids[half..], sealed);
        }
        let open_bytes = self.options.open_bytes();
        for partition in 0..slots {
            let (open, rows) = (self.rows[partition], self.plan.rows_in(partition));
            // What is not known by partition is in proportion to its rows.
            let needed = self.needed[partition] + unknown / ids.len() * rows;
            let bytes = self.bytes[partition];
            let full = bytes + needed > self.ceilings[partition]
                || open + rows > self.options.chunk_rows
                // Growing doubles its memory: that of another one would go for it.
                || (open + rows > self.rooms[partition] && self.held + bytes > open_bytes);
            if open > 0 && rows > 0 && full {
                self.seal(partition, sealed)?;
            }
        }
        self.append(batch, ids)?;
        while self.held > open_bytes
            && let Some(fullest) = self.fullest()
        {
            self.seal(fullest, sealed)?;
        }
        for lane in &mut self.lanes {
            if !self.budget.set_open(self.held) {
                break;
            }
            lane.shed();
        }
        Ok(())
    }

    /// Finds what each partition needs for its rows: the largest, of one with too
    /// many rows more than a chunk; and what is not known by partition.
    fn measure(&mut self, batch: &RecordBatch, ids: &[u32]) -> (usize, usize) {
        self.needed.fill(0);
        let before = &self.rows;
        let block = Block { ids, plan: &self.plan, before };
        let (mut largest, mut unknown) = (0, 0);
        for (lane, column) in self.lanes.iter().zip(batch.columns()) {
            unknown += lane.measure(column.as_ref(), &block, &mut self.needed);
        }
        for partition in self.plan.touched() {
            let rows = self.plan.rows_in(partition);
            self.needed[partition] += (rows * self.row_bits).div_ceil(8);
            let too_many = rows > self.options.chunk_rows;
            largest = largest.max(if too_many { usize::MAX } else { self.needed[partition] });
        }
        (largest, unknown)
    }

    fn append(&mut self, batch: &RecordBatch, ids: &[u32]) -> Result<(), Error> {
        self.plan.sort(ids);
        let block = Block { ids, plan: &self.plan, before: &self.rows };
        for (lane, column) in self.lanes.iter_mut().zip(batch.columns()) {
            self.held += lane.append(column.as_ref(), &block, &mut self.bytes)?;
        }
        for partition in self.plan.touched() {
            self.rows[partition] += self.plan.rows_in(partition);
            self.bytes[partition] += self.needed[partition];
            if self.rows[partition] > self.rooms[partition] {
                let rooms = self.lanes.iter().map(|lane| lane.room(partition));
                self.rooms[partition] = rooms.min().unwrap_or(usize::MAX);
            }
        }
        Ok(())
    }

    fn fullest(&self) -> Option<usize> {
        let open = (0..self.rows.len()).filter(|partition| self.rows[*partition] > 0);
        open.max_by_key(|partition| self.bytes[*partition])
    }

    fn seal(&mut self, partition: usize, sealed: &mut Vec<Sealed>) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows[partition]);
        self.bytes[partition] = 0;
        self.ceilings[partition] = self.options.chunk_bytes;
        self.rooms[partition] = 0;
        let mut columns = Vec::with_capacity(self.lanes.len());
        for lane in &mut self.lanes {
            let (pieces, freed) = lane.take(partition, rows)?;
            self.held = self.held.saturating_sub(freed);
            columns.push(pieces);
        }
        self.budget.set_open(self.held);
        let mut messages = Vec::new();
        for batch in seal::batches(&self.schema, &columns, rows)? {
            messages.extend(self.encoders.encode(partition, &batch)?);
        }
        let first = u32::try_from(partition).unwrap_or(u32::MAX);
        for copy in 0..self.copies {
            let messages = messages.clone();
            sealed.push(Sealed { partition: first + copy, rows: rows as u64, messages });
        }
        Ok(())
    }
}

/// Those of the first chunks are from three quarters up to whole ones. Where all
/// partitions get as many rows, they would all be full at once: no memory of
/// their messages could come back for the next ones, and all would be sent at
/// the same time.
fn first_ceilings(chunk: usize, slots: usize) -> Vec<usize> {
    (1..=slots).map(|number| chunk - chunk / 4 / slots * (slots - number)).collect()
}

#[cfg(test)]
mod tests;
