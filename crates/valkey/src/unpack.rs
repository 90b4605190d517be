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

use crate::pack::{RECORD_VERSION, join};

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

fn texts(bytes: &[u8]) -> Result<Vec<String>> {
    let mut reader = Reader(bytes);
    let mut texts = Vec::new();
    while !reader.0.is_empty() {
        texts.push(reader.text()?);
    }
    Ok(texts)
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

/// What never changes of a batch.
fn spec(id: &BatchId, bytes: &[u8]) -> Result<BatchSpec> {
    let mut reader = Reader(bytes);
    if reader.byte()? != RECORD_VERSION {
        return Err(Damaged);
    }
    let flags = reader.byte()?;
    let mut spec = BatchSpec::new(id.clone());
    spec.priority = i32::from_le_bytes(reader.array()?);
    (spec.rows, spec.bytes) = (reader.u64()?, reader.u64()?);
    let _home = reader.u32()?;
    spec.locations = texts(reader.long()?)?;
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
    spec.on_parent_failure = match flags & 24 {
        8 => OnParentFailure::Wait,
        16 => OnParentFailure::Cancel,
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

/// Bytes of the end of a state: deadline, rows, bytes, place and token.
const TAIL_BYTES: usize = 44;
/// Bytes of its beginning, and where in it stands when the batch expires.
const HEAD_BYTES: usize = 56;
const EXPIRES_AT: usize = 24;
/// Flags of a state: processing has begun; settled with the last token.
pub(crate) const STARTED: u8 = 1;
pub(crate) const SAME: u8 = 8;

/// Places count microseconds from here: the beginning of 2025.
pub(crate) const BASE: u64 = 1_735_689_600_000_000;

fn registered_at(place: u64) -> Timestamp {
    Timestamp::from_micros(place + BASE)
}

/// A batch as it is stored: what never changes, its state where it has one,
/// and its place in the order of registration, which is also when that was.
pub(crate) fn record(id: &BatchId, fixed: &[u8], state: &[u8], sequence: u64) -> Result<Batch> {
    let registered_at = registered_at(sequence);
    let mut batch = Batch {
        spec: spec(id, fixed)?,
        state: State::Pending,
        attempts: 0,
        lost_leases: 0,
        lease: None,
        progress: None,
        error: None,
        registered_at,
        updated_at: registered_at,
        due_at: None,
        first_attempt_at: None,
        finished_at: None,
        last_fence: Fence(0),
        settled: None,
        outputs: Vec::new(),
    };
    if !state.is_empty() {
        apply(state, &mut batch)?;
    }
    Ok(batch)
}

fn apply(bytes: &[u8], batch: &mut Batch) -> Result<()> {
    let end = bytes.len().checked_sub(TAIL_BYTES).ok_or(Damaged)?;
    let (body, tail) = bytes.split_at(end);
    let mut tail = Reader(tail);
    let deadline = tail.time()?;
    let (_rows, _bytes, _place) = (tail.u64()?, tail.u64()?, tail.u64()?);
    batch.last_fence = join(tail.u32()?, tail.u64()?);
    let mut reader = Reader(body);
    if reader.byte()? != RECORD_VERSION {
        return Err(Damaged);
    }
    batch.state = state(u64::from(reader.byte()?)).ok_or(Damaged)?;
    let flags = reader.byte()?;
    let settled = resolution(reader.byte()?);
    batch.lost_leases = reader.u32()?;
    batch.updated_at = reader.time()?;
    let time = |micros: u64| (micros > 0).then(|| Timestamp::from_micros(micros));
    let at = time(reader.u64()?);
    let scheduled = batch.state == State::Scheduled;
    (batch.due_at, batch.finished_at) = (at.filter(|_| scheduled), at.filter(|_| !scheduled));
    let _expires_at = reader.u64()?;
    batch.attempts = reader.u32()?;
    batch.first_attempt_at = time(reader.u64()?);
    let settled_fence = join(reader.u32()?, reader.u64()?);
    let fence = if flags & SAME == 0 { settled_fence } else { batch.last_fence };
    batch.settled = settled.map(|how| (fence, how));
    if batch.state == State::Processing {
        let duration = Duration::from_micros(reader.u64()?);
        let claimed_at = reader.time()?;
        batch.lease = Some(Holder {
            worker: reader.text()?,
            fence: batch.last_fence,
            deadline,
            started: flags & STARTED != 0,
            request_id: reader.text()?,
            claimed_at,
            duration,
        });
        let _queue = reader.text()?;
    }
    sections(reader, batch)
}

fn sections(mut reader: Reader<'_>, batch: &mut Batch) -> Result<()> {
    while !reader.0.is_empty() {
        let tag = reader.byte()?;
        let content = reader.long()?;
        match tag {
            b'e' => batch.error = Some(failure(content)?),
            b'p' => batch.progress = Some(progress(content)?),
            b'o' => batch.outputs = ids(content)?,
            b'l' => {
                let mut places = Reader(content);
                let _home = places.u32()?;
                batch.spec.locations = texts(places.0)?;
            }
            // Of a later version, or of no interest here.
            _ => {}
        }
    }
    Ok(())
}

/// What [`record`] leaves out: when it expires, and what it waits for.
pub(crate) fn rest(state: &[u8]) -> Result<(Option<Timestamp>, Vec<BatchId>)> {
    let Some(end) = state.len().checked_sub(TAIL_BYTES) else { return Ok((None, Vec::new())) };
    let mut reader = Reader(&state[..end]);
    reader.take(EXPIRES_AT)?;
    let expires_at = reader.u64()?;
    reader.take(HEAD_BYTES - EXPIRES_AT - 8)?;
    if state.get(1).copied() == Some(State::Processing as u8 + 1) {
        let (_duration, _claimed_at) = (reader.u64()?, reader.u64()?);
        let _names = (reader.short()?, reader.short()?, reader.short()?);
    }
    let mut waits = Vec::new();
    while !reader.0.is_empty() {
        let (tag, content) = (reader.byte()?, reader.long()?);
        if tag == b'u' {
            waits = ids(content)?;
        }
    }
    Ok(((expires_at > 0).then(|| Timestamp::from_micros(expires_at)), waits))
}

/// A lease of a batch that is under one.
pub(crate) fn lease(id: &BatchId, fixed: &[u8], state: &[u8]) -> Result<Lease> {
    let batch = record(id, fixed, state, 0)?;
    let held = batch.lease.ok_or(Damaged)?;
    Ok(Lease {
        spec: batch.spec,
        fence: held.fence,
        deadline: held.deadline,
        attempt: batch.attempts + u32::from(!held.started),
    })
}

/// What the leases of a block have in common.
pub(crate) struct Block {
    deadline: Timestamp,
    first: Fence,
}

impl Block {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let deadline = reader.time()?;
        let first = join(reader.u32()?, reader.u64()?);
        Ok(Block { deadline, first })
    }

    /// Lease number `at`: the first attempt, for nothing has happened before.
    pub(crate) fn lease(&self, at: u64, name: &[u8], fixed: &[u8]) -> Result<Lease> {
        let spec = spec(&id(name)?, fixed)?;
        let fence = Fence(self.first.0 + at);
        Ok(Lease { spec, fence, deadline: self.deadline, attempt: 1 })
    }
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
    stats.oldest_pending_at = (oldest > 0).then(|| registered_at(oldest));
    Ok(stats)
}
