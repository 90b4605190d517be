//! What an instance has to remember, as a batch of its own: how far a source is, or that an
//! instance is done with a run.
//!
//! The batch is in a queue of its own that only this instance takes from. It is never over as
//! long as it counts, and so nothing of it is ever removed.

use std::sync::Arc;

use arrow_array::{Array as _, BinaryArray, BooleanArray, RecordBatch, UInt64Array};
use bytes::Bytes;
use sheaf_coordinator::{BatchSpec, Control, LeaseRef, SettleRequest, State};
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::link::{Link, Payload, completed, reference};
use super::names;
use crate::error::ComponentError;
use crate::offset::Kept;

/// All that is not over.
const LIVE: [State; 4] = [State::Pending, State::Processing, State::Scheduled, State::Waiting];
/// Batches that are completed in one step.
const MAX_INPUTS: usize = 5_000;

/// How far a source is. It is held under a lease.
pub(crate) struct Journal {
    queue: String,
    lease: LeaseRef,
    number: u64,
}

/// What the next step leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: Option<Bytes>,
    pub(crate) ended: bool,
}

impl Journal {
    /// Takes the journal of a source over, or begins one at this offset.
    pub(crate) async fn open(
        link: &Link,
        initial: Option<Bytes>,
    ) -> Result<(Self, Kept), ComponentError> {
        let queue = names::journal(&link.place);
        link.take_over(&queue).await?;
        let found = link.live(&queue, &LIVE).await?;
        let last = found.into_iter().rfind(|batch| names::is_offset(&batch.spec.id));
        let id = match last {
            Some(batch) => batch.spec.id,
            None => {
                let position = Position { offset: initial, ended: false };
                let id = named(names::offset(&link.place, link.epoch, 0), link)?;
                let (queue, batches) = (queue.clone(), vec![encode(0, &position)?]);
                link.register(&[Payload { id: id.clone(), queue, batches, trace: None }]).await?;
                id
            }
        };
        let request =
            sheaf_coordinator::ClaimRequest { ids: vec![id.clone()], ..link.request(&queue, 1) };
        let leases = link.claim(request).await?;
        let Some(lease) = leases.first().map(reference) else {
            let text = format!("{id} is held by somebody else; this process tries again");
            return Err(ComponentError::new(Code::Unavailable, text));
        };
        let read = || link.store.get_batch(&id);
        let batch = link.insist("read how far the source is", read).await.map_err(|error| {
            let text = format!(
                "how far {} is was lost with the store; --fresh begins at the beginning",
                link.place
            );
            ComponentError::new(Code::Corrupt, text).because(error)
        })?;
        let kept = decode(&batch).ok_or_else(|| {
            ComponentError::new(Code::Corrupt, format!("{id} is no offset of a source"))
        })?;
        Ok((Journal { queue, lease, number: 0 }, kept))
    }

    /// The queue that it is in.
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// The next position, and what it is called.
    pub(super) fn next(
        &mut self,
        link: &Link,
        position: &Position,
    ) -> Result<(BatchId, RecordBatch), ComponentError> {
        self.number += 1;
        let id = named(names::offset(&link.place, link.epoch, self.number), link)?;
        Ok((id, encode(link.pass, position)?))
    }

    /// The step that completes the position before, registers these and the next one.
    pub(super) fn step(
        &self,
        link: &Link,
        outputs: Vec<BatchSpec>,
        next: &BatchId,
    ) -> SettleRequest {
        let claim = sheaf_coordinator::ClaimRequest {
            ids: vec![next.clone()],
            ..link.request(&self.queue, 1)
        };
        SettleRequest {
            outcomes: vec![completed(&self.lease, outputs)],
            claim: Some(claim),
            ..SettleRequest::default()
        }
    }

    /// That step was taken.
    pub(super) fn stepped(
        &mut self,
        claim: Option<sheaf_coordinator::Claim>,
    ) -> Result<(), ComponentError> {
        let lease = claim.and_then(|claim| claim.leases.first().map(reference));
        self.lease = lease.ok_or_else(|| {
            let text = format!("another process has taken over {}", self.queue);
            ComponentError::new(Code::StaleFence, text)
        })?;
        Ok(())
    }
}

fn named(id: Option<BatchId>, link: &Link) -> Result<BatchId, ComponentError> {
    id.ok_or_else(|| {
        let text = format!("no identifier can be made of {}", link.place);
        ComponentError::new(Code::InvalidArgument, text)
    })
}

fn encode(run: u64, position: &Position) -> Result<RecordBatch, ComponentError> {
    let offset = BinaryArray::from_iter([position.offset.as_deref()]);
    let columns: [(&str, arrow_array::ArrayRef); 3] = [
        ("run", Arc::new(UInt64Array::from(vec![run]))),
        ("ended", Arc::new(BooleanArray::from(vec![position.ended]))),
        ("offset", Arc::new(offset)),
    ];
    let nullable = columns.map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(nullable).map_err(|error| {
        ComponentError::new(Code::Internal, "an offset is no record batch").because(error)
    })
}

fn decode(batch: &RecordBatch) -> Option<Kept> {
    let run = batch.column_by_name("run")?.as_any().downcast_ref::<UInt64Array>()?;
    let ended = batch.column_by_name("ended")?.as_any().downcast_ref::<BooleanArray>()?;
    let offset = batch.column_by_name("offset")?.as_any().downcast_ref::<BinaryArray>()?;
    if batch.num_rows() != 1 {
        return None;
    }
    let offset = offset.is_valid(0).then(|| Bytes::copy_from_slice(offset.value(0)));
    Some(Kept { pass: run.value(0), ended: ended.value(0), offset })
}

/// Whether this instance has noted that it is done with this pass. What it noted of earlier
/// passes, and in a pipeline of another graph, is removed: there it may read more.
pub(crate) async fn is_done(link: &Link) -> Result<bool, ComponentError> {
    let queue = names::journal(&link.place);
    let now = named(names::done(&link.place, link.pass, link.graph), link)?;
    let found = link.live(&queue, &LIVE).await?;
    let is_done = found.iter().any(|batch| batch.spec.id == now);
    let old = found.into_iter().map(|batch| batch.spec.id);
    let old: Vec<BatchId> = old.filter(|id| *id != now && !names::is_offset(id)).collect();
    if !old.is_empty() {
        let cancel = || link.coordinator.control(Control::Cancel(old.clone()));
        link.insist("remove notes of earlier runs", cancel).await?;
    }
    Ok(is_done)
}

/// What stands for the end of a stream.
pub(super) fn end(run: u64) -> Result<RecordBatch, ComponentError> {
    encode(run, &Position { offset: None, ended: true })
}

/// The note that this instance is done with this run.
fn note(link: &Link) -> Result<Payload, ComponentError> {
    let queue = names::journal(&link.place);
    let id = named(names::done(&link.place, link.pass, link.graph), link)?;
    Ok(Payload { id, queue, batches: vec![end(link.pass)?], trace: None })
}

/// Completes these, registers what came of them and the note that this run needs nothing more
/// here, in one step: of so many inputs that they do not fit into one, what came of them is
/// registered with the first that are completed, so that nothing is lost between two steps.
pub(super) async fn finish(
    link: &Link,
    inputs: Vec<LeaseRef>,
    mut payloads: Vec<Payload>,
) -> Result<(), ComponentError> {
    let mut rest = &inputs[..];
    while rest.len() > MAX_INPUTS {
        let (first, others) = rest.split_at(MAX_INPUTS);
        link.step(first, &std::mem::take(&mut payloads)).await?;
        rest = others;
    }
    payloads.push(note(link)?);
    link.step(rest, &payloads).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back() {
        for offset in [None, Some(Bytes::new()), Some(Bytes::from_static(b"\0 7"))] {
            let position = Position { offset: offset.clone(), ended: true };
            let kept = decode(&encode(3, &position).unwrap()).unwrap();
            assert_eq!(kept, Kept { pass: 3, ended: true, offset });
        }
    }
}
