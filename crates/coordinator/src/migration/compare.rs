//! Whether the target has what the source has.

use std::time::Duration;

use sheaf_retry::{Code, Timestamp};

use super::{Endpoint, Head, Progress, Record};
use crate::contract::Error;
use crate::limits;
use crate::model::{Batch, BatchSpec};

/// How much later a batch may seem to be registered: a backend that orders by time
/// gives batches of one moment a microsecond each.
const LATER: Duration = Duration::from_secs(60);

/// What was found on both sides.
#[derive(Default)]
pub(super) struct Found {
    /// Batches that are not over.
    pub(super) live: u64,
    /// Of them those that are under lease.
    pub(super) leases: u64,
}

/// Reads both sides from the beginning, and compares batch by batch.
pub(super) async fn all(
    from: &mut dyn Endpoint,
    to: &mut dyn Endpoint,
    head: &Head,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Found, Error> {
    let all = head.batches;
    let found = to.head().await?;
    if let Some(queue) = head.queues.iter().find(|queue| !found.queues.contains(queue)) {
        let (from, to, name) = (from.name(), to.name(), &queue.name);
        let operation =
            format!("the settings of queue {name:?} are not the same in {from} and in {to}");
        return Err(Error::Backend { operation, code: Code::Corrupt, source: None });
    }
    let (mut sources, mut targets) = (Side::default(), Side::default());
    let (mut done, mut counts) = (0, Found::default());
    loop {
        let (one, other) = (sources.next(from).await?, targets.next(to).await?);
        match (one, other) {
            (None, None) => break,
            (Some(one), None) => return Err(missing(to, &one)),
            (None, Some(other)) => return Err(missing(from, &other)),
            (Some(one), Some(other)) => {
                if let Some(field) = difference(&one, &other) {
                    return Err(differs(from, to, &one, &other, field));
                }
                counts.live += u64::from(!one.batch.state.is_terminal());
                counts.leases += u64::from(one.batch.lease.is_some());
            }
        }
        done += 1;
        if sources.is_read() {
            tell(Progress::Compared(done, all));
        }
    }
    if done == all {
        return Ok(counts);
    }
    let operation = format!("{} has {all} batches, of which {done} can be listed", from.name());
    Err(Error::Backend { operation, code: Code::Corrupt, source: None })
}

/// One side, part by part.
#[derive(Default)]
struct Side {
    part: std::vec::IntoIter<Record>,
    after: u64,
}

impl Side {
    async fn next(&mut self, of: &mut dyn Endpoint) -> Result<Option<Record>, Error> {
        if self.part.as_slice().is_empty() {
            self.part = of.read(self.after).await?.into_iter();
        }
        let next = self.part.next();
        if let Some(record) = &next {
            self.after = record.sequence;
        }
        Ok(next)
    }

    fn is_read(&self) -> bool {
        self.part.as_slice().is_empty()
    }
}

fn missing(of: &dyn Endpoint, record: &Record) -> Error {
    let operation = format!("{} does not have batch {}", of.name(), record.batch.spec.id);
    Error::Backend { operation, code: Code::Corrupt, source: None }
}

fn differs(
    from: &dyn Endpoint,
    to: &dyn Endpoint,
    one: &Record,
    other: &Record,
    field: &'static str,
) -> Error {
    let (from, to) = (from.name(), to.name());
    let (id, there) = (&one.batch.spec.id, &other.batch.spec.id);
    let operation = if id == there {
        format!("{field} of batch {id} is not the same in {from} and in {to}")
    } else {
        format!("{from} has batch {id} where {to} has batch {there}")
    };
    Error::Backend { operation, code: Code::Corrupt, source: None }
}

/// The first field in which they differ. Sequence numbers are each side's own.
pub(crate) fn difference(one: &Record, other: &Record) -> Option<&'static str> {
    let (ours, theirs) = (&one.batch, &other.batch);
    let later = theirs.registered_at.since(ours.registered_at);
    let ids = |record: &Record| {
        let mut ids: Vec<String> =
            record.waits_for.iter().map(|waited| waited.id.to_string()).collect();
        ids.sort_unstable();
        ids
    };
    let fields = [
        ("id", ours.spec.id == theirs.spec.id),
        ("the specification", plain(&ours.spec) == plain(&theirs.spec)),
        ("state", ours.state == theirs.state),
        ("attempts", ours.attempts == theirs.attempts),
        ("lost_leases", ours.lost_leases == theirs.lost_leases),
        ("lease", lease(ours) == lease(theirs)),
        ("progress", ours.progress == theirs.progress),
        ("error", ours.error == theirs.error),
        ("registered_at", theirs.registered_at >= ours.registered_at && later <= LATER),
        ("updated_at", ours.updated_at == theirs.updated_at || is_new(theirs)),
        ("due_at", ours.due_at == theirs.due_at),
        ("first_attempt_at", ours.first_attempt_at == theirs.first_attempt_at),
        ("finished_at", ours.finished_at == theirs.finished_at),
        ("last_fence", ours.last_fence == theirs.last_fence),
        ("settled", ours.settled == theirs.settled),
        ("outputs", ours.outputs == theirs.outputs),
        ("expires_at", one.expires_at == other.expires_at),
        ("waits_for", ids(one) == ids(other)),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

/// Nothing happened to it since it was registered, of which a backend needs to keep
/// when.
fn is_new(batch: &Batch) -> bool {
    batch.updated_at == batch.registered_at
}

/// With the queue by its name, and durations as every backend keeps them.
fn plain(spec: &BatchSpec) -> BatchSpec {
    let millis = |duration: Duration| {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    BatchSpec {
        queue: limits::queue(&spec.queue).unwrap_or(&spec.queue).to_owned(),
        delay: millis(spec.delay),
        dedup_window: millis(spec.dedup_window),
        expires_after: spec.expires_after.map(millis),
        ..spec.clone()
    }
}

/// What proves who has it.
fn lease(batch: &Batch) -> Option<(&str, &str, bool, u128, Timestamp)> {
    batch.lease.as_ref().map(|held| {
        let millis = held.duration.as_millis();
        (&*held.worker, &*held.request_id, held.started, millis, held.claimed_at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Waited;
    use crate::model::{Failure, Fence, Holder, Progress as Work, Resolution, State};

    type Change = Box<dyn Fn(&mut Record)>;

    fn record() -> Record {
        let mut record = Record::damaged(1, None, "why", Timestamp::from_millis(5));
        record.batch.settled = Some((Fence(3), Resolution::Failed));
        record.batch.outputs = vec!["out".parse().unwrap()];
        record
    }

    #[test]
    fn every_field_counts() {
        let at = Timestamp::from_millis(9);
        let holder = Holder {
            worker: "w".to_owned(),
            fence: Fence(4),
            deadline: at,
            started: true,
            request_id: "r".to_owned(),
            claimed_at: at,
            duration: Duration::from_secs(1),
        };
        let changes: [(&str, Change); 18] = [
            ("id", Box::new(|r| r.batch.spec.id = "x".parse().unwrap())),
            ("the specification", Box::new(|r| r.batch.spec.rows = 1)),
            ("state", Box::new(|r| r.batch.state = State::Expired)),
            ("attempts", Box::new(|r| r.batch.attempts = 1)),
            ("lost_leases", Box::new(|r| r.batch.lost_leases = 1)),
            ("lease", Box::new(move |r| r.batch.lease = Some(holder.clone()))),
            ("progress", Box::new(|r| r.batch.progress = Some(Work::default()))),
            ("error", Box::new(|r| r.batch.error = None::<Failure>)),
            ("registered_at", Box::new(|r| r.batch.registered_at = Timestamp::EPOCH)),
            ("updated_at", Box::new(move |r| r.batch.updated_at = at)),
            ("due_at", Box::new(move |r| r.batch.due_at = Some(at))),
            ("first_attempt_at", Box::new(move |r| r.batch.first_attempt_at = Some(at))),
            ("finished_at", Box::new(|r| r.batch.finished_at = None)),
            ("last_fence", Box::new(|r| r.batch.last_fence = Fence(9))),
            ("settled", Box::new(|r| r.batch.settled = Some((Fence(3), Resolution::Completed)))),
            ("outputs", Box::new(|r| r.batch.outputs.clear())),
            ("expires_at", Box::new(move |r| r.expires_at = Some(at))),
            (
                "waits_for",
                Box::new(|r| r.waits_for.push(Waited { id: "p".parse().unwrap(), sequence: 1 })),
            ),
        ];
        assert_eq!(difference(&record(), &record()), None);
        for (field, change) in changes {
            let mut other = record();
            change(&mut other);
            assert_eq!(difference(&record(), &other), Some(field));
        }
    }

    #[test]
    fn what_each_side_has_for_itself_does_not_count() {
        let mut other = record();
        other.sequence = 77;
        other.batch.registered_at = Timestamp::from_millis(6);
        other.batch.updated_at = other.batch.registered_at;
        other.batch.spec.queue = String::new();
        assert_eq!(difference(&record(), &other), None);
    }
}
