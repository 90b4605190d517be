//! Records as they are stored, and the way back.
//!
//! A record is encoded by hand rather than through the generated type: the
//! packed specification is copied as it is, and nothing is allocated.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use prost::bytes::BufMut;
use prost::encoding::{self, WireType, encoded_len_varint};
use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::storage::v1 as storage;
use sheaf_retry::Timestamp;

use super::bucket::Bucket;
use super::record::{Extra, Held, Record, Stored, Waits};
use super::{Engine, fence};
use crate::contract::Error;
use crate::limits;
use crate::model::{BatchSpec, Failure, OnParentFailure, Progress, Resolution, State};
use crate::policy::QueuePolicy;
use crate::request::Run;

/// The version that records are written with; greater ones are refused.
///
/// 2 brought limits of queues, turns of tenants and batches that wait.
pub const RECORD_VERSION: u32 = 2;

/// Length of the checksum field that ends a record: key and four bytes.
const CHECKSUM_LENGTH: usize = 5;
/// Key of field 5, fixed 32 bit.
const CHECKSUM_KEY: u8 = (5 << 3) | 5;

/// Why a stored record cannot be used.
#[derive(Debug)]
pub enum Damage {
    /// Written by a newer version: nothing may be changed.
    Newer(u32),
    /// Its bytes are no record. The identifier is there if it could be read.
    Corrupt {
        /// The batch, where it could be told.
        id: Option<BatchId>,
        /// What is wrong.
        why: String,
    },
}

fn text(tag: u32, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        encoding::encode_key(tag, WireType::LengthDelimited, out);
        encoding::encode_varint(value.len() as u64, out);
        out.put_slice(value.as_bytes());
    }
}

fn number(tag: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encoding::uint64::encode(tag, &value, out);
    }
}

fn number_len(tag: u32, value: u64) -> usize {
    if value == 0 { 0 } else { encoding::uint64::encoded_len(tag, &value) }
}

fn text_len(tag: u32, value: &str) -> usize {
    if value.is_empty() {
        return 0;
    }
    encoding::key_len(tag) + encoded_len_varint(value.len() as u64) + value.len()
}

fn turn((priority, tenant): (i32, &Arc<str>)) -> storage::Turn {
    storage::Turn { priority, tenant: tenant.to_string() }
}

/// A nested message: `fill` writes its content.
fn nested(tag: u32, length: usize, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(length as u64, out);
    let start = out.len();
    fill(out);
    debug_assert_eq!(out.len() - start, length, "the length of field {tag}");
}

impl Record {
    /// Protobuf writes a negative `int32` as its 64-bit two's complement.
    fn wire_priority(&self) -> u64 {
        i64::from(self.priority).cast_unsigned()
    }

    fn spec_length(&self, queue: &str) -> usize {
        text_len(1, self.id())
            + text_len(2, queue)
            + number_len(3, self.wire_priority())
            + number_len(12, self.rows)
            + number_len(13, self.bytes)
            + self.spec_rest().len()
    }

    fn encode_spec(&self, queue: &str, out: &mut Vec<u8>) {
        text(1, self.id(), out);
        text(2, queue, out);
        number(3, self.wire_priority(), out);
        number(12, self.rows, out);
        number(13, self.bytes, out);
        out.put_slice(self.spec_rest());
    }

    /// The batch without its specification, leased and extra parts included.
    fn encode_state(&self, out: &mut Vec<u8>) {
        number(2, u64::from(self.state.to_wire().unsigned_abs()), out);
        number(3, u64::from(self.attempts), out);
        number(4, u64::from(self.lost_leases), out);
        if let Some(held) = self.lease.as_deref() {
            let millis = u64::try_from(held.duration.as_millis()).unwrap_or(u64::MAX);
            let numbers = [
                (2, self.last_fence),
                (3, held.deadline),
                (4, u64::from(held.started)),
                (6, held.claimed_at),
                (7, millis),
            ];
            let length = text_len(1, &held.worker)
                + text_len(5, &held.request)
                + numbers.iter().map(|(tag, value)| number_len(*tag, *value)).sum::<usize>();
            nested(5, length, out, |out| {
                text(1, &held.worker, out);
                text(5, &held.request, out);
                numbers.iter().for_each(|(tag, value)| number(*tag, *value, out));
            });
        }
        if let Some(extra) = self.extra.as_deref() {
            if let Some(progress) = &extra.progress {
                encoding::message::encode(6, &proto::Progress::from(progress), out);
            }
            if let Some(error) = &extra.error {
                encoding::message::encode(7, &proto::Failure::from(error), out);
            }
        }
        number(8, self.registered_at, out);
        number(9, self.updated_at, out);
        number(if self.state == State::Scheduled { 10 } else { 12 }, self.at, out);
        number(11, self.first_attempt_at, out);
        number(13, self.last_fence, out);
        if let Some(resolution) = self.settled {
            number(14, self.settled_fence, out);
            number(15, u64::from(resolution.to_wire().unsigned_abs()), out);
        }
        for id in self.extra.iter().flat_map(|extra| &extra.outputs) {
            text(16, id.as_str(), out);
        }
    }
}

impl Engine {
    /// Appends the stored form of a batch to `out`; false where there is none
    /// of that sequence number.
    pub fn encode(&self, sequence: u64, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        let Some(slot) = self.order.get(&sequence) else { return false };
        let record = self.slab.get(*slot);
        let queue = &self.queues.get(record.queue).name;
        scratch.clear();
        record.encode_state(scratch);
        let spec = record.spec_length(queue);
        let batch = encoding::key_len(1) + encoded_len_varint(spec as u64) + spec + scratch.len();
        let start = out.len();
        number(1, u64::from(RECORD_VERSION), out);
        number(2, sequence, out);
        nested(3, batch, out, |out| {
            nested(1, spec, out, |out| record.encode_spec(queue, out));
            out.put_slice(scratch);
        });
        number(4, record.expires_at, out);
        if let Some(waits) = record.extra.as_ref().and_then(|extra| extra.waits.as_ref()) {
            encoding::uint64::encode_packed(6, &waits.unmet, out);
        }
        let checksum = crc32c::crc32c(&out[start..]);
        out.put_u8(CHECKSUM_KEY);
        out.put_u32_le(checksum);
        true
    }

    /// Sequence numbers and stored forms of batches after `after`, in order: `most`
    /// at once, none at the end.
    pub fn stored_after(&self, after: u64, most: usize) -> Vec<(u64, Vec<u8>)> {
        let mut scratch = Vec::new();
        let range = self.order.range(after.saturating_add(1)..).take(most);
        let stored = range.map(|(sequence, _)| {
            let mut out = Vec::new();
            self.encode(*sequence, &mut scratch, &mut out);
            (*sequence, out)
        });
        stored.collect()
    }

    /// A hash of all that is stored: of batches, queues and what stands beside them.
    /// The same for every engine that has the same state, however it came to it.
    /// Encodes every batch: about a second for a million.
    pub fn digest(&self) -> u64 {
        let mut so_far = (0, Some(0));
        while let (sum, Some(after)) = so_far {
            so_far = self.digest_after(sum, after, usize::MAX);
        }
        so_far.0
    }

    /// A part of [`Engine::digest`], of an engine that does not change meanwhile: adds at most
    /// `most` batches after `after` to a sum, and tells after which to go on. The first part
    /// begins with 0 after 0.
    pub fn digest_after(&self, mut sum: u64, after: u64, most: usize) -> (u64, Option<u64>) {
        let (mut scratch, mut bytes) = (Vec::new(), Vec::new());
        let (mut last, mut count) = (after, 0);
        for sequence in self.order.range(after.saturating_add(1)..).map(|(it, _)| *it).take(most) {
            bytes.clear();
            self.encode(sequence, &mut scratch, &mut bytes);
            sum = sum.wrapping_add(fence::hash(&bytes));
            (last, count) = (sequence, count + 1);
        }
        if count == most {
            return (sum, Some(last));
        }
        sum = sum.wrapping_add(fence::hash(&self.meta(self.fences.epoch()).encode_to_vec()));
        for queue in self.queue_names().filter_map(|name| self.encode_queue(&name)) {
            sum = sum.wrapping_add(fence::hash(&queue));
        }
        (sum, None)
    }

    /// The stored form of a queue's switches and counters.
    pub fn encode_queue(&self, name: &str) -> Option<Vec<u8>> {
        let queue = self.queues.get(self.queues.find(name)?);
        let record = storage::QueueRecord {
            version: RECORD_VERSION,
            queue: name.to_owned(),
            paused: queue.paused,
            draining: queue.draining,
            purged: queue.purged,
            policy: Some((&queue.policy).into()),
            full_at_ns: queue.bucket.as_ref().map_or(0, Bucket::full_at_ns),
            turns: queue.ready.turns().map(turn).collect(),
        };
        Some(record.encode_to_vec())
    }

    /// What the next engine on the same state must know.
    pub fn meta(&self, epoch: u64) -> storage::CoordinatorMeta {
        storage::CoordinatorMeta {
            version: RECORD_VERSION,
            epoch,
            last_fence: self.fences.last().0,
            next_sequence: self.next_sequence,
            last_now: self.now.as_micros(),
            copied_at: 0,
            run: self.run,
            past: self.past.iter().map(proto::Run::from).collect(),
            migration: None,
        }
    }

    /// Goes on where the engine before stopped.
    pub fn load_meta(&mut self, meta: &storage::CoordinatorMeta) {
        self.next_sequence = self.next_sequence.max(meta.next_sequence);
        self.fences.raise(meta.last_fence);
        self.run = meta.run;
        self.past = meta.past.iter().map(|run| Run { id: run.id, end: run.end }).collect();
        self.advance(Timestamp::from_micros(meta.last_now));
    }

    /// Sets a queue as it was stored, and empty counters where it was not.
    ///
    /// # Errors
    /// [`Error::Limit`] for one queue too many.
    pub fn load_queue(&mut self, record: &storage::QueueRecord) -> Result<(), Error> {
        let number = self.queues.ensure(limits::queue(&record.queue)?)?;
        let policy = record.policy.map(QueuePolicy::try_from).transpose()?;
        let now = self.now;
        let queue = self.queues.get_mut(number);
        (queue.paused, queue.draining, queue.purged) =
            (record.paused, record.draining, record.purged);
        queue.configure(&policy.unwrap_or_default(), record.full_at_ns, now);
        self.throttle(number);
        self.load_turns(record);
        Ok(())
    }

    /// Sets whose turn it is in a queue, once its batches are there.
    pub fn load_turns(&mut self, record: &storage::QueueRecord) {
        let Some(number) = self.queues.find(&record.queue) else { return };
        let ready = &mut self.queues.get_mut(number).ready;
        let old: Vec<i32> = ready.turns().map(|(priority, _)| priority).collect();
        old.into_iter().for_each(|priority| ready.set_turn(priority, None));
        for turn in &record.turns {
            ready.set_turn(turn.priority, Some(&turn.tenant));
        }
    }

    /// Adds a stored batch, or puts the stored one in place of what is there.
    ///
    /// # Errors
    /// [`Damage`]; nothing has then changed.
    pub fn load(&mut self, sequence: u64, bytes: &[u8]) -> Result<(), Damage> {
        let record = decode_record(sequence, bytes)?;
        let corrupt = |id: Option<&BatchId>, error: Error| Damage::Corrupt {
            id: id.cloned(),
            why: error.to_string(),
        };
        let batch = record.batch.unwrap_or_default();
        let mut checked = check(&batch).map_err(|(id, error)| corrupt(id.as_ref(), error))?;
        let spec = batch.spec.as_ref();
        let tenant = spec.map_or_else(String::new, |spec| spec.tenant.clone());
        if (checked.state == State::Waiting) == record.waits_for.is_empty() {
            let problem = "is not what a waiting batch, and only one, has".to_owned();
            let error = Error::Invalid { field: "waits_for", problem };
            return Err(corrupt(Some(&checked.id), error));
        }
        if checked.state == State::Waiting {
            let on = match spec.map_or(0, |spec| spec.on_parent_failure) {
                0 => Ok(OnParentFailure::Fail),
                value => OnParentFailure::from_wire(value),
            };
            let on = on.map_err(|error| corrupt(Some(&checked.id), error))?;
            let waits = Waits { on, unmet: record.waits_for };
            checked.extra.get_or_insert_default().waits = Some(waits);
        }
        let name = spec.map_or("", |spec| spec.queue.as_str());
        let queue = limits::queue(name)
            .and_then(|name| self.queues.ensure(name))
            .map_err(|error| corrupt(Some(&checked.id), error))?;
        self.unload(sequence);
        if let Some(slot) = self.find_id(&checked.id) {
            let other = self.slab.get(slot).sequence;
            let why = format!("batch {} is stored twice, also as record {other}", checked.id);
            return Err(Damage::Corrupt { id: None, why });
        }
        let stored = Record::from_stored(batch, checked, queue, sequence, record.expires_at);
        self.insert(stored, &tenant);
        Ok(())
    }

    /// Takes a batch out as if it had never been there; not a purge.
    pub fn unload(&mut self, sequence: u64) {
        if let Some(slot) = self.order.get(&sequence).copied() {
            self.forget(slot);
        }
    }

    /// Enters a batch whose record cannot be read as failed, with code
    /// `corrupt`; without an identifier it is named `corrupt-` and its number.
    /// Whether it has its own name.
    ///
    /// # Errors
    /// [`Error::Limit`] where the default queue is one queue too many.
    pub fn load_damaged(
        &mut self,
        sequence: u64,
        id: Option<&BatchId>,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let now = self.advance(now);
        let free = id.filter(|id| self.find_id(id).is_none()).cloned();
        let is_itself = free.is_some();
        let id = match free {
            Some(id) => id,
            None => BatchId::try_new(&format!("corrupt-{sequence}"))
                .map_err(|problem| Error::Invalid { field: "id", problem: problem.to_string() })?,
        };
        let queue = self.queues.ensure(crate::model::DEFAULT_QUEUE)?;
        self.unload(sequence);
        let slot = self.insert(Record::damaged(&id, queue, sequence, why, now), "");
        self.note(slot, None, None);
        Ok(is_itself)
    }

    /// Gives every lease its full duration from `now`: workers could not
    /// extend while the coordinator was away.
    pub fn renew_leases(&mut self, now: Timestamp) {
        let now = self.advance(now);
        let leased: Vec<u64> = self.deadlines.iter().map(|(_, sequence)| *sequence).collect();
        for slot in leased
            .iter()
            .filter_map(|sequence| self.order.get(sequence).copied())
            .collect::<Vec<_>>()
        {
            self.keep(slot);
            self.detach(slot);
            if let Some(held) = self.slab.get_mut(slot).lease.as_deref_mut() {
                held.deadline = held.deadline.max(now.plus(held.duration).as_micros());
            }
            self.attach(slot);
        }
    }
}

/// The stored form of a batch, with its checksum behind it.
pub(crate) fn seal_record(record: &storage::BatchRecord) -> Vec<u8> {
    let mut bytes = storage::BatchRecord { crc32c: 0, ..record.clone() }.encode_to_vec();
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u8(CHECKSUM_KEY);
    bytes.put_u32_le(checksum);
    bytes
}

/// The stored form of a batch, checked by its checksum, its version and its number.
pub(crate) fn decode_record(sequence: u64, bytes: &[u8]) -> Result<storage::BatchRecord, Damage> {
    let corrupt = |why: String| Damage::Corrupt { id: salvage_id(bytes), why };
    // The version comes first and is read even where the rest is of a newer form.
    if let [8, version, ..] = bytes
        && *version < 0x80
        && u32::from(*version) > RECORD_VERSION
    {
        return Err(Damage::Newer(u32::from(*version)));
    }
    let Some(end) = bytes.len().checked_sub(CHECKSUM_LENGTH) else {
        return Err(corrupt(format!("record {sequence} has only {} bytes", bytes.len())));
    };
    let record = storage::BatchRecord::decode(bytes)
        .map_err(|error| corrupt(format!("record {sequence} does not decode: {error}")))?;
    if record.version > RECORD_VERSION {
        return Err(Damage::Newer(record.version));
    }
    let actual = crc32c::crc32c(&bytes[..end]);
    if bytes[end] != CHECKSUM_KEY || record.crc32c != actual {
        let stored = record.crc32c;
        let why = format!("record {sequence} has checksum {actual:08x}, written was {stored:08x}");
        return Err(corrupt(why));
    }
    if record.sequence != sequence {
        return Err(corrupt(format!("record {sequence} says that it is {}", record.sequence)));
    }
    Ok(record)
}

/// The identifier stands at a fixed place: version, sequence, batch, specification, id.
fn salvage_id(bytes: &[u8]) -> Option<BatchId> {
    let mut rest = bytes;
    for key in [1_u32 << 3, 2 << 3, (3 << 3) | 2, (1 << 3) | 2, (1 << 3) | 2] {
        (encoding::decode_varint(&mut rest).ok()? == u64::from(key)).then_some(())?;
        let value = encoding::decode_varint(&mut rest).ok()?;
        let is_id = rest.len() < bytes.len() && key == ((1 << 3) | 2);
        if is_id
            && let Ok(length) = usize::try_from(value)
            && let Some(id) = rest.get(..length)
            && let Ok(text) = std::str::from_utf8(id)
            && let Ok(id) = BatchId::try_new(text)
        {
            return Some(id);
        }
    }
    None
}

type Checked = Result<Stored, (Option<BatchId>, Error)>;

/// Everything in a stored batch that could be wrong.
fn check(batch: &proto::Batch) -> Checked {
    let spec = batch.spec.as_ref();
    let name = spec.map_or("", |spec| spec.id.as_str());
    let id = BatchId::try_new(name)
        .map_err(|problem| (None, Error::Invalid { field: "id", problem: problem.to_string() }))?;
    check_fields(batch, &id).map_err(|error| (Some(id), error))
}

fn check_fields(batch: &proto::Batch, id: &BatchId) -> Result<Stored, Error> {
    let state = State::from_wire(batch.state)?;
    if let Some(spec) = &batch.spec
        && !(spec.parents.is_empty() && spec.depends_on.is_empty() && spec.retry.is_none())
    {
        BatchSpec::try_from(spec.clone())?;
    }
    let settled = match batch.settled_fence {
        0 => None,
        _ => Some(Resolution::from_wire(batch.settled_result)?),
    };
    let lease = batch.lease.as_ref().map(|holder| {
        Box::new(Held {
            worker: Arc::from(holder.worker.as_str()),
            request: Arc::from(holder.request_id.as_str()),
            deadline: holder.deadline,
            claimed_at: holder.claimed_at,
            duration: Duration::from_millis(holder.duration_ms),
            started: holder.started,
        })
    });
    if lease.is_some() != (state == State::Processing) {
        let problem = format!("{state} with a lease, or processing without one");
        return Err(Error::Invalid { field: "lease", problem });
    }
    let extra = Extra {
        waits: None,
        progress: batch.progress.clone().map(Progress::try_from).transpose()?,
        error: batch.error.clone().map(Failure::try_from).transpose()?,
        outputs: batch
            .outputs
            .iter()
            .map(|text| BatchId::try_new(text))
            .collect::<Result<_, _>>()
            .map_err(|problem| Error::Invalid { field: "outputs", problem: problem.to_string() })?,
    };
    let empty = extra.progress.is_none() && extra.error.is_none() && extra.outputs.is_empty();
    Ok(Stored { id: id.clone(), state, settled, lease, extra: (!empty).then(|| Box::new(extra)) })
}
