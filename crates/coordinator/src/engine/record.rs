//! A batch as the engine keeps it: about 150 bytes and its packed specification.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::Timestamp;

use crate::model::{
    Batch, BatchSpec, Failure, Fence, Holder, OnParentFailure, Progress, Resolution, State,
};
use crate::request::Lease;

/// Microseconds since 1970; 0 stands for "not".
pub(super) type Micros = u64;

/// The specification names parents.
pub(super) const HAS_PARENTS: u8 = 1;
/// The specification has a dedup key.
pub(super) const HAS_KEY: u8 = 2;
/// The key is remembered.
pub(super) const IS_REMEMBERED: u8 = 4;

pub(super) struct Record {
    pub(super) sequence: u64,
    packed: Packed,
    pub(super) queue: u32,
    /// Set when it is inserted.
    pub(super) tenant: u32,
    /// Of the constants above.
    pub(super) flags: u8,
    pub(super) priority: i32,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// One bit for each payload location.
    pub(super) home: u64,
    pub(super) state: State,
    /// Changed since the last commit.
    pub(super) dirty: bool,
    pub(super) settled: Option<Resolution>,
    pub(super) attempts: u32,
    pub(super) lost_leases: u32,
    pub(super) registered_at: Micros,
    pub(super) updated_at: Micros,
    pub(super) first_attempt_at: Micros,
    pub(super) expires_at: Micros,
    /// While scheduled when it falls due, while terminal when it finished.
    pub(super) at: Micros,
    pub(super) last_fence: u64,
    pub(super) settled_fence: u64,
    pub(super) lease: Option<Box<Held>>,
    pub(super) extra: Option<Box<Extra>>,
}

/// A lease; its fence is the record's last one.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) worker: Arc<str>,
    pub(super) request: Arc<str>,
    pub(super) deadline: Micros,
    pub(super) claimed_at: Micros,
    pub(super) duration: Duration,
    pub(super) started: bool,
}

/// What most batches never have.
#[derive(Clone, Default)]
pub(super) struct Extra {
    pub(super) progress: Option<Progress>,
    pub(super) error: Option<Failure>,
    pub(super) outputs: Vec<BatchId>,
    pub(super) waits: Option<Waits>,
}

/// What a batch in state `waiting` waits for.
#[derive(Clone)]
pub(super) struct Waits {
    pub(super) on: OnParentFailure,
    /// Sequence numbers of those that have not yet completed.
    pub(super) unmet: Vec<u64>,
}

/// The identifier's bytes, then the encoded rest of the specification.
struct Packed {
    bytes: Box<[u8]>,
    id_length: u8,
}

impl Packed {
    /// `rest` without the fields that the record has itself.
    fn new(id: &str, mut rest: proto::BatchSpec) -> Self {
        rest.id.clear();
        rest.queue.clear();
        (rest.priority, rest.rows, rest.bytes) = (0, 0, 0);
        let mut bytes = Vec::with_capacity(id.len() + rest.encoded_len());
        bytes.extend_from_slice(id.as_bytes());
        rest.encode_raw(&mut bytes);
        // Identifiers have at most 200 bytes.
        let id_length = u8::try_from(id.len()).unwrap_or(u8::MAX);
        Packed { bytes: bytes.into_boxed_slice(), id_length }
    }

    fn id(&self) -> &str {
        // Only ever made of a text of that length.
        std::str::from_utf8(&self.bytes[..usize::from(self.id_length)]).unwrap_or_default()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[usize::from(self.id_length)..]
    }
}

/// The bit of a location in [`Record::home`]; two may share one, which only
/// makes a batch look near that is not.
fn location_bit(location: &str) -> u64 {
    1 << (super::fence::hash(location.as_bytes()) % 64)
}

/// The bits of several locations.
pub(super) fn location_bits(locations: &[String]) -> u64 {
    locations.iter().fold(0, |bits, location| bits | location_bit(location))
}

impl Record {
    /// A fresh batch; the caller sets its state.
    pub(super) fn new(spec: &BatchSpec, queue: u32, sequence: u64, now: Timestamp) -> Self {
        let mut record = Record::empty(spec.id.as_str(), spec.into(), queue, sequence);
        record.registered_at = now.as_micros();
        record.updated_at = now.as_micros();
        record
    }

    fn empty(id: &str, spec: proto::BatchSpec, queue: u32, sequence: u64) -> Self {
        Record {
            sequence,
            queue,
            tenant: 0,
            flags: (if spec.parents.is_empty() { 0 } else { HAS_PARENTS })
                | (if spec.dedup_key.is_empty() { 0 } else { HAS_KEY }),
            priority: spec.priority,
            rows: spec.rows,
            bytes: spec.bytes,
            home: location_bits(&spec.locations),
            packed: Packed::new(id, spec),
            state: State::Pending,
            dirty: false,
            settled: None,
            attempts: 0,
            lost_leases: 0,
            registered_at: 0,
            updated_at: 0,
            first_attempt_at: 0,
            expires_at: 0,
            at: 0,
            last_fence: 0,
            settled_fence: 0,
            lease: None,
            extra: None,
        }
    }

    /// What was written to disk; `batch` was checked.
    pub(super) fn from_stored(
        batch: proto::Batch,
        checked: Stored,
        queue: u32,
        sequence: u64,
        expires_at: Micros,
    ) -> Self {
        let spec = batch.spec.unwrap_or_default();
        let mut record = Record::empty(checked.id.as_str(), spec, queue, sequence);
        record.state = checked.state;
        record.settled = checked.settled;
        record.attempts = batch.attempts;
        record.lost_leases = batch.lost_leases;
        record.registered_at = batch.registered_at;
        record.updated_at = batch.updated_at;
        record.first_attempt_at = batch.first_attempt_at;
        record.expires_at = expires_at;
        record.at =
            if checked.state == State::Scheduled { batch.due_at } else { batch.finished_at };
        record.last_fence = batch.last_fence;
        record.settled_fence = batch.settled_fence;
        record.lease = checked.lease;
        record.extra = checked.extra;
        record
    }

    pub(super) fn id(&self) -> &str {
        self.packed.id()
    }

    pub(super) fn batch_id(&self) -> BatchId {
        // An identifier went in; the other branch keeps this free of panics.
        BatchId::try_new(self.id()).unwrap_or_else(|_| BatchId::generate(0))
    }

    /// The encoded specification without id, queue, priority, rows and bytes.
    pub(super) fn spec_rest(&self) -> &[u8] {
        self.packed.rest()
    }

    pub(super) fn spec(&self, queue: &str) -> BatchSpec {
        let mut message = proto::BatchSpec::decode(self.packed.rest()).unwrap_or_default();
        self.id().clone_into(&mut message.id);
        queue.clone_into(&mut message.queue);
        message.priority = self.priority;
        message.rows = self.rows;
        message.bytes = self.bytes;
        // It was made of a valid one, or was checked when it was read.
        BatchSpec::try_from(message).unwrap_or_else(|_| BatchSpec::new(self.batch_id()))
    }

    pub(super) fn locations(&self) -> Vec<String> {
        let rest = proto::BatchSpec::decode(self.packed.rest()).unwrap_or_default();
        rest.locations
    }

    /// The caller keeps to the limit on their number.
    pub(super) fn set_locations(&mut self, locations: Vec<String>) {
        let mut rest = proto::BatchSpec::decode(self.packed.rest()).unwrap_or_default();
        self.home = location_bits(&locations);
        rest.locations = locations;
        let id = self.id().to_owned();
        self.packed = Packed::new(&id, rest);
    }

    pub(super) fn lease(&self, queue: &str) -> Lease {
        let held = self.lease.as_deref();
        let started = held.is_some_and(|held| held.started);
        Lease {
            spec: self.spec(queue),
            fence: Fence(self.last_fence),
            deadline: Timestamp::from_micros(held.map_or(0, |held| held.deadline)),
            attempt: self.attempts + u32::from(!started),
        }
    }

    /// The lease that `fence` names, where it still stands.
    pub(super) fn standing(&self, fence: Fence, now: Timestamp) -> Option<&Held> {
        let held = self.lease.as_deref()?;
        (self.last_fence == fence.0 && held.deadline > now.as_micros()).then_some(held)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn drop_waits(&mut self) {
        if let Some(extra) = self.extra.as_deref_mut() {
            extra.waits = None;
        }
    }

    pub(super) fn batch(&self, queue: &str) -> Batch {
        let time = |micros: Micros| (micros > 0).then(|| Timestamp::from_micros(micros));
        let extra = self.extra.as_deref();
        let scheduled = self.state == State::Scheduled;
        Batch {
            spec: self.spec(queue),
            state: self.state,
            attempts: self.attempts,
            lost_leases: self.lost_leases,
            lease: self.lease.as_deref().map(|held| Holder {
                worker: held.worker.to_string(),
                fence: Fence(self.last_fence),
                deadline: Timestamp::from_micros(held.deadline),
                started: held.started,
                request_id: held.request.to_string(),
                claimed_at: Timestamp::from_micros(held.claimed_at),
                duration: held.duration,
            }),
            progress: extra.and_then(|extra| extra.progress.clone()),
            error: extra.and_then(|extra| extra.error.clone()),
            registered_at: Timestamp::from_micros(self.registered_at),
            updated_at: Timestamp::from_micros(self.updated_at),
            due_at: time(self.at).filter(|_| scheduled),
            first_attempt_at: time(self.first_attempt_at),
            finished_at: time(self.at).filter(|_| !scheduled),
            last_fence: Fence(self.last_fence),
            settled: self.settled.map(|resolution| (Fence(self.settled_fence), resolution)),
            outputs: extra.map_or_else(Vec::new, |extra| extra.outputs.clone()),
        }
    }
}

/// The parts of a stored batch that had to be checked.
pub(super) struct Stored {
    pub(super) id: BatchId,
    pub(super) state: State,
    pub(super) settled: Option<Resolution>,
    pub(super) lease: Option<Box<Held>>,
    pub(super) extra: Option<Box<Extra>>,
}
