//! Batches and leases.

use std::time::Duration;

use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::Timestamp;

use super::{id, ids, micros, millis, required, some, texts, time};
use crate::contract::Error;
use crate::model::{Batch, BatchSpec, Fence, Holder, Resolution, State};
use crate::request::{Lease, LeaseRef};

impl From<&Holder> for proto::Holder {
    fn from(holder: &Holder) -> Self {
        proto::Holder {
            worker: holder.worker.clone(),
            fence: holder.fence.0,
            deadline: holder.deadline.as_micros(),
            started: holder.started,
            request_id: holder.request_id.clone(),
            claimed_at: holder.claimed_at.as_micros(),
            duration_ms: millis(holder.duration),
        }
    }
}

impl TryFrom<proto::Holder> for Holder {
    type Error = Error;

    fn try_from(message: proto::Holder) -> Result<Self, Error> {
        Ok(Holder {
            worker: message.worker,
            fence: Fence(message.fence),
            deadline: Timestamp::from_micros(message.deadline),
            started: message.started,
            request_id: message.request_id,
            claimed_at: Timestamp::from_micros(message.claimed_at),
            duration: Duration::from_millis(message.duration_ms),
        })
    }
}

impl From<&Batch> for proto::Batch {
    fn from(batch: &Batch) -> Self {
        proto::Batch {
            spec: Some((&batch.spec).into()),
            state: batch.state.to_wire(),
            attempts: batch.attempts,
            lost_leases: batch.lost_leases,
            lease: batch.lease.as_ref().map(Into::into),
            progress: batch.progress.as_ref().map(Into::into),
            error: batch.error.as_ref().map(Into::into),
            registered_at: batch.registered_at.as_micros(),
            updated_at: batch.updated_at.as_micros(),
            due_at: micros(batch.due_at),
            first_attempt_at: micros(batch.first_attempt_at),
            finished_at: micros(batch.finished_at),
            last_fence: batch.last_fence.0,
            settled_fence: batch.settled.map_or(0, |(fence, _)| fence.0),
            settled_result: batch.settled.map_or(0, |(_, resolution)| resolution.to_wire()),
            outputs: texts(&batch.outputs),
        }
    }
}

impl TryFrom<proto::Batch> for Batch {
    type Error = Error;

    fn try_from(message: proto::Batch) -> Result<Self, Error> {
        let settled = match message.settled_fence {
            0 => None,
            fence => Some((Fence(fence), Resolution::from_wire(message.settled_result)?)),
        };
        Ok(Batch {
            spec: BatchSpec::try_from(required("batch.spec", message.spec)?)?,
            state: State::from_wire(message.state)?,
            attempts: message.attempts,
            lost_leases: message.lost_leases,
            lease: some(message.lease)?,
            progress: some(message.progress)?,
            error: some(message.error)?,
            registered_at: Timestamp::from_micros(message.registered_at),
            updated_at: Timestamp::from_micros(message.updated_at),
            due_at: time(message.due_at),
            first_attempt_at: time(message.first_attempt_at),
            finished_at: time(message.finished_at),
            last_fence: Fence(message.last_fence),
            settled,
            outputs: ids("outputs", &message.outputs)?,
        })
    }
}

impl From<&Lease> for proto::Lease {
    fn from(lease: &Lease) -> Self {
        proto::Lease {
            id: lease.spec.id.as_str().to_owned(),
            fence: lease.fence.0,
            deadline: lease.deadline.as_micros(),
            attempt: lease.attempt,
            spec: Some((&lease.spec).into()),
        }
    }
}

impl TryFrom<proto::Lease> for Lease {
    type Error = Error;

    fn try_from(message: proto::Lease) -> Result<Self, Error> {
        Ok(Lease {
            spec: BatchSpec::try_from(required("lease.spec", message.spec)?)?,
            fence: Fence(message.fence),
            deadline: Timestamp::from_micros(message.deadline),
            attempt: message.attempt,
        })
    }
}

impl From<&LeaseRef> for proto::LeaseRef {
    fn from(lease: &LeaseRef) -> Self {
        proto::LeaseRef { id: lease.id.as_str().to_owned(), fence: lease.fence.0 }
    }
}

impl TryFrom<proto::LeaseRef> for LeaseRef {
    type Error = Error;

    fn try_from(message: proto::LeaseRef) -> Result<Self, Error> {
        Ok(LeaseRef { id: id("lease.id", &message.id)?, fence: Fence(message.fence) })
    }
}
