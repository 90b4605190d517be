//! What scripts answer, and records as they are stored.

use std::time::Duration;

use prost::Message as _;
use sheaf_coordinator::{
    Batch, BatchSpec, Failure, Fence, Holder, Lease, OnParentFailure, Progress, QueuePolicy,
    QueueStats, RateLimit, Resolution, State,
};
use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::{Code, RetryPolicy, Timestamp};

use crate::pack::join;

/// Bytes of the head of a record.
const HEAD_BYTES: usize = 112;
/// Version of records.
const RECORD_VERSION: u8 = 1;

/// Bytes that are not what a script writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end too early, or are not of a record")]
pub(crate) struct Damaged;

type Result<T> = std::result::Result<T, Damaged>;

/// Reads bytes in order.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A whole number that was kept as a double.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub(crate) fn whole(&mut self) -> Result<u64> {
        Ok(self.f64()? as u64)
    }

    fn micros(&mut self) -> Result<Duration> {
        Ok(Duration::from_micros(self.whole()?))
    }

    fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_micros(self.u64()?))
    }

    pub(crate) fn short(&mut self) -> Result<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(usize::from(length))
    }

    pub(crate) fn long(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        text(self.short()?)
    }

    pub(crate) fn id(&mut self) -> Result<BatchId> {
        let length = self.byte()?;
        id(self.take(usize::from(length))?)
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Damaged)
}

pub(crate) fn id(bytes: &[u8]) -> Result<BatchId> {
    std::str::from_utf8(bytes).map_err(|_| Damaged)?.parse().map_err(|_| Damaged)
}

fn ids(bytes: &[u8]) -> Result<Vec<BatchId>> {
    let mut reader = Reader(bytes);
    let mut ids = Vec::new();
    while !reader.0.is_empty() {
        ids.push(reader.id()?);
    }
    Ok(ids)
}

/// The state of that number; 0 is none.
pub(crate) fn state(number: u64) -> Option<State> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    State::ALL.get(at).copied()
}

fn resolution(number: u8) -> Option<Resolution> {
    match number {
        1 => Some(Resolution::Completed),
        2 => Some(Resolution::Failed),
        3 => Some(Resolution::Released),
        _ => None,
    }
}

/// A failure as it is kept: with its time, as events carry it as well.
pub(crate) fn failure(bytes: &[u8]) -> Result<Failure> {
    let mut reader = Reader(bytes);
    let at = reader.time()?;
    let permanent = reader.byte()? != 0;
    let code = reader.text()?.parse().unwrap_or(Code::Internal);
    Ok(Failure { code, message: text(reader.0)?, permanent, at })
}

fn progress(bytes: &[u8]) -> Result<Progress> {
    let mut reader = Reader(bytes);
    let (rows_done, rows_total) = (reader.u64()?, reader.u64()?);
    Ok(Progress { rows_done, rows_total, note: text(reader.0)? })
}

fn policy(bytes: &[u8]) -> Result<Option<RetryPolicy>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader(bytes);
    Ok(Some(RetryPolicy {
        max_retries: u32::try_from(reader.whole()?).unwrap_or(u32::MAX),
        base_ms: reader.whole()?,
        factor: reader.f64()?,
        cap_ms: reader.whole()?,
        jitter: reader.f64()?,
        deadline_ms: {
            let limit = reader.f64()?;
            (limit >= 0.0).then(|| Reader(&limit.to_le_bytes()).whole()).transpose()?
        },
    }))
}

/// The fixed numbers of a record.
struct Head {
    state: State,
    flags: u8,
    settled: Option<Resolution>,
    priority: i32,
    attempts: u32,
    lost_leases: u32,
    last_fence: Fence,
    settled_fence: Fence,
    rows: u64,
    bytes: u64,
    registered_at: Timestamp,
    updated_at: Timestamp,
    first_attempt_at: u64,
    at: u64,
    fixed_bytes: usize,
}

fn head(reader: &mut Reader<'_>) -> Result<Head> {
    if reader.0.len() < HEAD_BYTES || reader.byte()? != RECORD_VERSION {
        return Err(Damaged);
    }
    let state = state(u64::from(reader.byte()?)).ok_or(Damaged)?;
    let flags = reader.byte()?;
    let settled = resolution(reader.byte()?);
    let priority = i32::from_le_bytes(reader.array()?);
    let (attempts, lost_leases) = (reader.u32()?, reader.u32()?);
    let last_fence = join(reader.u32()?, reader.u64()?);
    let settled_fence = join(reader.u32()?, reader.u64()?);
    let (_sequence, rows, bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (registered_at, updated_at) = (reader.time()?, reader.time()?);
    let first_attempt_at = reader.u64()?;
    let _expires_at = reader.u64()?;
    let at = reader.u64()?;
    let _home = reader.u32()?;
    let fixed_bytes = reader.u32()? as usize;
    Ok(Head {
        state,
        flags,
        settled,
        priority,
        attempts,
        lost_leases,
        last_fence,
        settled_fence,
        rows,
        bytes,
        registered_at,
        updated_at,
        first_attempt_at,
        at,
        fixed_bytes,
    })
}

/// The specification but for what the head and the sections have.
fn fixed(id: &BatchId, bytes: &[u8], flags: u8) -> Result<BatchSpec> {
    let mut reader = Reader(bytes);
    let mut spec = BatchSpec::new(id.clone());
    spec.queue = reader.text()?;
    spec.tenant = reader.text()?;
    spec.retry = policy(reader.short()?)?;
    let mut options = Reader(reader.long()?);
    if !options.0.is_empty() {
        spec.delay = options.micros()?;
        let expires = options.f64()?;
        if expires >= 0.0 {
            spec.expires_after = Some(Reader(&expires.to_le_bytes()).micros()?);
        }
        spec.dedup_window = options.micros()?;
        spec.dedup_key = options.text()?;
        spec.parents = ids(options.long()?)?;
        spec.depends_on = ids(options.long()?)?;
    }
    spec.on_parent_failure = match flags & 96 {
        32 => OnParentFailure::Wait,
        64 => OnParentFailure::Cancel,
        _ => OnParentFailure::Fail,
    };
    let _digest = reader.u64()?;
    let rest = proto::BatchSpec::decode(reader.0).map_err(|_| Damaged)?;
    spec.partition_key = rest.partition_key;
    spec.checksum = rest.checksum;
    spec.schema_fingerprint = rest.schema_fingerprint;
    spec.trace_context = rest.trace_context;
    Ok(spec)
}

/// A record as it is stored.
pub(crate) fn record(id: &BatchId, bytes: &[u8]) -> Result<Batch> {
    let mut reader = Reader(bytes);
    let head = head(&mut reader)?;
    let mut spec = fixed(id, reader.take(head.fixed_bytes)?, head.flags)?;
    (spec.priority, spec.rows, spec.bytes) = (head.priority, head.rows, head.bytes);
    let mut lease = None;
    if head.state == State::Processing {
        let (deadline, claimed_at) = (reader.time()?, reader.time()?);
        let duration = Duration::from_micros(reader.u64()?);
        lease = Some(Holder {
            worker: reader.text()?,
            fence: head.last_fence,
            deadline,
            started: head.flags & 16 != 0,
            request_id: reader.text()?,
            claimed_at,
            duration,
        });
    }
    let time = |micros: u64| (micros > 0).then(|| Timestamp::from_micros(micros));
    let scheduled = head.state == State::Scheduled;
    let mut batch = Batch {
        spec,
        state: head.state,
        attempts: head.attempts,
        lost_leases: head.lost_leases,
        lease,
        progress: None,
        error: None,
        registered_at: head.registered_at,
        updated_at: head.updated_at,
        due_at: time(head.at).filter(|_| scheduled),
        first_attempt_at: time(head.first_attempt_at),
        finished_at: time(head.at).filter(|_| !scheduled),
        last_fence: head.last_fence,
        settled: head.settled.map(|how| (head.settled_fence, how)),
        outputs: Vec::new(),
    };
    while !reader.0.is_empty() {
        let tag = reader.byte()?;
        let content = reader.long()?;
        match tag {
            b'e' => batch.error = Some(failure(content)?),
            b'p' => batch.progress = Some(progress(content)?),
            b'o' => batch.outputs = ids(content)?,
            b'l' => {
                let mut places = Reader(content);
                while !places.0.is_empty() {
                    batch.spec.locations.push(places.text()?);
                }
            }
            // Of a later version, or of no interest here.
            _ => {}
        }
    }
    Ok(batch)
}

/// A lease of a record that is under one.
pub(crate) fn lease(id: &BatchId, bytes: &[u8]) -> Result<Lease> {
    let batch = record(id, bytes)?;
    let held = batch.lease.ok_or(Damaged)?;
    Ok(Lease {
        spec: batch.spec,
        fence: held.fence,
        deadline: held.deadline,
        attempt: batch.attempts + u32::from(!held.started),
    })
}

/// Counts, switches and limits of a queue.
pub(crate) fn queue(name: &str, bytes: &[u8], oldest: u64) -> Result<QueueStats> {
    let mut reader = Reader(bytes);
    let mut stats = QueueStats { queue: name.to_owned(), ..QueueStats::default() };
    for state in State::ALL {
        stats.counts.insert(state, reader.whole()?);
    }
    (stats.live_rows, stats.live_bytes) = (reader.whole()?, reader.whole()?);
    stats.purged = reader.whole()?;
    (stats.paused, stats.draining) = (reader.f64()? > 0.0, reader.f64()? > 0.0);
    let limit = |value: f64| (value >= 0.0).then(|| Reader(&value.to_le_bytes()).whole());
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let max_leased = limit(reader.f64()?).transpose()?.map(narrow);
    let max_leased_per_tenant = limit(reader.f64()?).transpose()?.map(narrow);
    let (per_second, burst) = (reader.f64()?, reader.whole()?);
    let _full_at = reader.f64()?;
    let max_live_bytes = limit(reader.f64()?).transpose()?;
    let rate = (per_second >= 0.0).then(|| RateLimit { per_second, burst: narrow(burst) });
    stats.policy = QueuePolicy { max_leased, max_leased_per_tenant, rate, max_live_bytes };
    stats.oldest_pending_at = (oldest > 0).then(|| Timestamp::from_micros(oldest));
    Ok(stats)
}
