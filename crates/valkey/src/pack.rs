//! What scripts are given: little-endian, as Lua's `struct` reads it.

use std::time::Duration;

use bytes::Bytes;
use sheaf_coordinator::engine::Config;
use sheaf_coordinator::limits;
use sheaf_coordinator::migration::Record;
use sheaf_coordinator::{
    Batch, ClaimRequest, Error, Extension, Failure, Fence, Outcome, Progress, QueuePolicy,
    Resolution, State,
};
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, Timestamp};
use twox_hash::XxHash3_64;

use crate::unpack::{SAME, STARTED};

mod registration;

pub(crate) use registration::{MIN_BLOCK, joined, key, register, spec};

/// Whole numbers are exact in a script up to here.
pub(crate) const MAX_EXACT: u64 = 1 << 53;
/// Longest duration that a script adds to a time, microseconds: 126 years.
const MAX_MICROS: u64 = 4_000_000_000_000_000;
/// Version of records.
pub(crate) const RECORD_VERSION: u8 = 1;
/// Bits of a token below its epoch.
const TIME_BITS: u32 = 44;

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn f64(&mut self, value: f64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Microseconds as a double.
    pub(crate) fn micros(&mut self, duration: Duration) -> &mut Self {
        self.f64(micros(duration))
    }

    /// A text under 64 KiB with its length before it. Limits were checked.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.u16(length).raw(&text.as_bytes()[..usize::from(length)])
    }

    /// What `add` adds, which has under 64 KiB, with its length before it.
    fn short(&mut self, add: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.u16(0).0.len();
        add(self);
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at - 2..at].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// What `add` adds, with its length before it.
    pub(crate) fn long(&mut self, add: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.u32(0).0.len();
        add(self);
        let length = u32::try_from(self.0.len() - at).unwrap_or(u32::MAX);
        self.0[at - 4..at].copy_from_slice(&length.to_le_bytes());
        self
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn id(&mut self, id: &BatchId) -> &mut Self {
        // Identifiers have at most 200 bytes.
        let id = id.as_str();
        self.byte(u8::try_from(id.len()).unwrap_or(u8::MAX)).raw(id.as_bytes())
    }

    fn ids(&mut self, ids: &[BatchId]) -> &mut Self {
        self.long(|packed| {
            for id in ids {
                packed.id(id);
            }
        })
    }

    fn policy(&mut self, policy: &RetryPolicy) {
        self.f64(f64::from(policy.max_retries))
            .f64(policy.base_ms as f64)
            .f64(policy.factor)
            .f64(policy.cap_ms as f64)
            .f64(policy.jitter)
            .f64(policy.deadline_ms.map_or(-1.0, |limit| limit as f64));
    }

    pub(crate) fn fence(&mut self, fence: Fence) -> &mut Self {
        let (epoch, low) = split(fence);
        self.u32(epoch).u64(low)
    }

    pub(crate) fn done(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}

/// A token as scripts know it: its epoch and the rest.
pub(crate) fn split(fence: Fence) -> (u32, u64) {
    let epoch = u32::try_from(fence.0 >> TIME_BITS).unwrap_or(u32::MAX);
    (epoch, fence.0 & ((1 << TIME_BITS) - 1))
}

/// Undoes [`split`].
pub(crate) fn join(epoch: u32, low: u64) -> Fence {
    Fence((u64::from(epoch) << TIME_BITS) | low)
}

fn micros(duration: Duration) -> f64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(MAX_MICROS) as f64
}

/// The bit of a payload's location; two may share one, which only makes a
/// batch look near that is not.
pub(crate) fn home(locations: &[String]) -> u32 {
    locations
        .iter()
        .fold(0, |bits, location| bits | 1 << (XxHash3_64::oneshot(location.as_bytes()) % 32))
}

/// How this client wants batches to be treated: the first argument of every script.
pub(crate) fn settings(config: &Config) -> Bytes {
    let count = |value: u64| value.min(MAX_EXACT) as f64;
    let mut packed = Packed::default();
    packed
        .micros(config.keep_finished)
        .f64(count(config.max_finished as u64))
        .micros(config.keep_failed)
        .f64(count(config.max_failed as u64))
        .f64(count(config.max_live))
        .f64(if config.max_live_bytes >= MAX_EXACT { -1.0 } else { count(config.max_live_bytes) })
        .f64(count(config.max_keys as u64))
        .f64(count(config.max_dependencies as u64))
        .micros(config.locality_wait)
        .short(|packed| packed.policy(&config.retry));
    packed.done()
}

/// Refuses a text that would end a part of a key.
pub(crate) fn no_zero(field: &'static str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        let problem = format!("{text:?} has a zero byte, which the Valkey coordinator uses itself");
        return Err(Error::Invalid { field, problem });
    }
    Ok(())
}

/// What became of a batch, as scripts keep it; nothing for one that is new and
/// ready. Its place is put in by whoever gives it one.
pub(crate) fn state(record: &Record) -> Bytes {
    let batch = &record.batch;
    let is_new = batch.state == State::Pending
        && (batch.attempts, batch.lost_leases, batch.last_fence) == (0, 0, Fence(0))
        && batch.error.is_none()
        && batch.progress.is_none()
        && batch.outputs.is_empty()
        && batch.settled.is_none()
        && record.expires_at.is_none()
        && batch.updated_at == batch.registered_at;
    if is_new {
        return Bytes::new();
    }
    let time = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_micros);
    let started = batch.lease.as_ref().is_some_and(|held| held.started);
    let same = batch.settled.is_some_and(|(fence, _)| fence == batch.last_fence);
    let (settled, how) = batch.settled.map_or((Fence(0), 0), |(fence, how)| (fence, number(how)));
    let mut packed = Packed::default();
    packed
        .byte(RECORD_VERSION)
        .byte(batch.state as u8 + 1)
        .byte((u8::from(started) * STARTED) | (u8::from(same) * SAME))
        .byte(how)
        .u32(batch.lost_leases)
        .u64(batch.updated_at.as_micros())
        .u64(time(batch.due_at.or(batch.finished_at)))
        .u64(time(record.expires_at))
        .u32(batch.attempts)
        .u64(time(batch.first_attempt_at))
        .fence(settled);
    if let Some(held) = &batch.lease {
        let duration = u64::try_from(held.duration.as_micros()).unwrap_or(u64::MAX);
        let queue = limits::queue(&batch.spec.queue).unwrap_or(&batch.spec.queue);
        packed
            .u64(duration)
            .u64(held.claimed_at.as_micros())
            .text(&held.worker)
            .text(&held.request_id)
            .text(queue);
    }
    let waits: Vec<BatchId> = record.waits_for.iter().map(|waited| waited.id.clone()).collect();
    packed.sections(batch, &waits);
    packed
        .u64(time(batch.lease.as_ref().map(|held| held.deadline)))
        .u64(batch.spec.rows)
        .u64(batch.spec.bytes)
        .u64(0)
        .fence(batch.last_fence);
    packed.done()
}

impl Packed {
    fn sections(&mut self, batch: &Batch, waits: &[BatchId]) {
        if let Some(error) = &batch.error {
            self.byte(b'e').long(|packed| {
                packed.u64(error.at.as_micros()).failure(error);
            });
        }
        if let Some(known) = &batch.progress {
            self.byte(b'p').long(|packed| packed.progress(known));
        }
        if !batch.outputs.is_empty() {
            self.byte(b'o').ids(&batch.outputs);
        }
        if !waits.is_empty() {
            self.byte(b'u').ids(waits);
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let failure = limits::failure(failure);
        self.byte(u8::from(failure.permanent))
            .text(failure.code.as_str())
            .raw(failure.message.as_bytes());
    }

    /// What is known of the progress of a batch.
    fn progress(&mut self, progress: &Progress) {
        let progress = limits::progress(progress);
        self.u64(progress.rows_done).u64(progress.rows_total).raw(progress.note.as_bytes());
    }
}

fn number(resolution: Resolution) -> u8 {
    match resolution {
        Resolution::Completed => 1,
        Resolution::Failed => 2,
        Resolution::Released => 3,
    }
}

/// An outcome; its outputs follow as specifications.
pub(crate) fn outcome(outcome: &Outcome) -> Bytes {
    let outputs = u16::try_from(outcome.outputs.len()).unwrap_or(u16::MAX);
    let mut packed = Packed::default();
    packed
        .byte(number(outcome.resolution))
        .fence(outcome.lease.fence)
        .micros(outcome.delay)
        .u16(outputs)
        .id(&outcome.lease.id)
        .long(|packed| {
            if let Some(failure) = &outcome.error {
                packed.failure(failure);
            }
        });
    packed.done()
}

/// An extension.
pub(crate) fn extension(extension: &Extension) -> Bytes {
    let flags = u8::from(extension.started) | (u8::from(extension.progress.is_some()) << 1);
    let mut packed = Packed::default();
    packed
        .byte(flags)
        .fence(extension.lease.fence)
        .micros(extension.duration.unwrap_or_default())
        .id(&extension.lease.id)
        .long(|packed| {
            if let Some(known) = &extension.progress {
                packed.progress(known);
            }
        });
    packed.done()
}

/// A claim that was checked: its head, then queues and identifiers.
pub(crate) fn claim(request: &ClaimRequest) -> Result<Vec<Bytes>, Error> {
    no_zero("worker", &request.worker)?;
    let queues = queues(request)?;
    let bound = |limit: u64| if limit == 0 { MAX_EXACT as f64 } else { limit as f64 };
    let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    let mut packed = Packed::default();
    packed
        .u32(request.max)
        .f64(bound(request.max_bytes))
        .f64(bound(request.max_rows))
        .micros(request.lease)
        .u32(home(&request.locations))
        .byte(u8::from(request.start))
        .raw(&count(queues.len()))
        .raw(&count(request.ids.len()))
        .text(&request.worker)
        .text(&request.request_id);
    let mut all = vec![packed.done()];
    all.extend(queues.into_iter().map(Bytes::from));
    all.extend(request.ids.iter().map(|id| Bytes::from(id.as_str().to_owned())));
    Ok(all)
}

/// Claims of a group: what they ask for, and the worker and the request of each.
pub(crate) fn claims(queue: &str, requests: &[&ClaimRequest]) -> [Bytes; 2] {
    let (mut head, mut names) = (Packed::default(), Packed::default());
    if let Some(first) = requests.first() {
        let count = u16::try_from(requests.len()).unwrap_or(u16::MAX).to_le_bytes();
        head.micros(first.lease).raw(&count).byte(u8::from(first.start)).text(queue);
    }
    for request in requests {
        names.text(&[request.worker.as_str(), request.request_id.as_str()].join("\0"));
    }
    [head.done(), names.done()]
}

/// The queues of a claim, each once; those of its identifiers are not known.
pub(crate) fn queues(request: &ClaimRequest) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = request
        .queues
        .iter()
        .map(|name| limits::queue(name).map(str::to_owned))
        .collect::<Result<_, _>>()?;
    if names.is_empty() {
        names.push(sheaf_coordinator::DEFAULT_QUEUE.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The limits of a queue.
pub(crate) fn queue_policy(policy: &QueuePolicy) -> Bytes {
    let some = |value: Option<u64>| value.map_or(-1.0, |value| value.min(MAX_EXACT) as f64);
    let mut packed = Packed::default();
    packed
        .f64(some(policy.max_leased.map(u64::from)))
        .f64(some(policy.max_leased_per_tenant.map(u64::from)))
        .f64(policy.rate.map_or(-1.0, |rate| rate.per_second))
        .f64(policy.rate.map_or(0.0, |rate| f64::from(rate.burst)))
        .f64(some(policy.max_live_bytes));
    packed.done()
}
