//! Registering, claiming, settling and extending.

use std::time::Duration;

use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::Timestamp;

use super::spec::state;
use super::{from_all, id, ids, micros, millis, not_zero, some, some_millis, texts, time, to_all};
use crate::contract::Error;
use crate::model::{Fence, Resolution, State};
use crate::request::{
    Claim, ClaimRequest, Extended, Extension, LeaseRef, Outcome, Position, Registered, SettleReply,
    SettleRequest, Settled, Verdict,
};

impl From<&Registered> for proto::Registered {
    fn from(registered: &Registered) -> Self {
        proto::Registered {
            id: registered.id.as_str().to_owned(),
            state: registered.state.to_wire(),
            created: registered.created,
            run: registered.position.run,
            sequence: registered.position.sequence,
        }
    }
}

impl TryFrom<proto::Registered> for Registered {
    type Error = Error;

    fn try_from(message: proto::Registered) -> Result<Self, Error> {
        Ok(Registered {
            id: id("id", &message.id)?,
            state: State::from_wire(message.state)?,
            created: message.created,
            position: match message.run {
                0 => Position::UNKNOWN,
                run => Position { run, sequence: message.sequence },
            },
        })
    }
}

impl From<&ClaimRequest> for proto::ClaimRequest {
    fn from(request: &ClaimRequest) -> Self {
        proto::ClaimRequest {
            worker: request.worker.clone(),
            request_id: request.request_id.clone(),
            queues: request.queues.clone(),
            max: request.max,
            max_bytes: request.max_bytes,
            max_rows: request.max_rows,
            lease_ms: millis(request.lease),
            wait_ms: millis(request.wait),
            locations: request.locations.clone(),
            ids: texts(&request.ids),
            start: request.start,
        }
    }
}

impl TryFrom<proto::ClaimRequest> for ClaimRequest {
    type Error = Error;

    fn try_from(message: proto::ClaimRequest) -> Result<Self, Error> {
        Ok(ClaimRequest {
            worker: message.worker,
            request_id: message.request_id,
            queues: message.queues,
            max: message.max,
            max_bytes: message.max_bytes,
            max_rows: message.max_rows,
            lease: Duration::from_millis(message.lease_ms),
            wait: Duration::from_millis(message.wait_ms),
            locations: message.locations,
            ids: ids("ids", &message.ids)?,
            start: message.start,
        })
    }
}

impl From<&Claim> for proto::ClaimResponse {
    fn from(claim: &Claim) -> Self {
        proto::ClaimResponse {
            leases: to_all(&claim.leases),
            now: claim.now.as_micros(),
            next_due: micros(claim.next_due),
        }
    }
}

impl TryFrom<proto::ClaimResponse> for Claim {
    type Error = Error;

    fn try_from(message: proto::ClaimResponse) -> Result<Self, Error> {
        Ok(Claim {
            leases: from_all(message.leases)?,
            now: Timestamp::from_micros(message.now),
            next_due: time(message.next_due),
        })
    }
}

impl From<&Outcome> for proto::Outcome {
    fn from(outcome: &Outcome) -> Self {
        proto::Outcome {
            id: outcome.lease.id.as_str().to_owned(),
            fence: outcome.lease.fence.0,
            result: outcome.resolution.to_wire(),
            error: outcome.error.as_ref().map(Into::into),
            outputs: to_all(&outcome.outputs),
            delay_ms: millis(outcome.delay),
        }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = Error;

    fn try_from(message: proto::Outcome) -> Result<Self, Error> {
        let id = id("outcomes.id", &message.id)?;
        Ok(Outcome {
            lease: LeaseRef { id, fence: Fence(message.fence) },
            resolution: Resolution::from_wire(message.result)?,
            error: some(message.error)?,
            outputs: from_all(message.outputs)?,
            delay: Duration::from_millis(message.delay_ms),
        })
    }
}

impl From<&SettleRequest> for proto::SettleRequest {
    fn from(request: &SettleRequest) -> Self {
        proto::SettleRequest {
            outcomes: to_all(&request.outcomes),
            started: to_all(&request.started),
            claim: request.claim.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::SettleRequest> for SettleRequest {
    type Error = Error;

    fn try_from(message: proto::SettleRequest) -> Result<Self, Error> {
        Ok(SettleRequest {
            outcomes: from_all(message.outcomes)?,
            started: from_all(message.started)?,
            claim: some(message.claim)?,
        })
    }
}

impl From<&Settled> for proto::Settled {
    fn from(settled: &Settled) -> Self {
        proto::Settled {
            id: settled.id.as_str().to_owned(),
            verdict: settled.verdict.to_wire(),
            state: settled.state.map_or(0, State::to_wire),
        }
    }
}

impl TryFrom<proto::Settled> for Settled {
    type Error = Error;

    fn try_from(message: proto::Settled) -> Result<Self, Error> {
        Ok(Settled {
            id: id("id", &message.id)?,
            verdict: Verdict::from_wire(message.verdict)?,
            state: state(message.state)?,
        })
    }
}

impl From<&SettleReply> for proto::SettleResponse {
    fn from(reply: &SettleReply) -> Self {
        proto::SettleResponse {
            outcomes: to_all(&reply.outcomes),
            started: to_all(&reply.started),
            claim: reply.claim.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::SettleResponse> for SettleReply {
    type Error = Error;

    fn try_from(message: proto::SettleResponse) -> Result<Self, Error> {
        Ok(SettleReply {
            outcomes: from_all(message.outcomes)?,
            started: from_all(message.started)?,
            claim: some(message.claim)?,
        })
    }
}

impl From<&Extension> for proto::Extension {
    fn from(extension: &Extension) -> Self {
        proto::Extension {
            id: extension.lease.id.as_str().to_owned(),
            fence: extension.lease.fence.0,
            started: extension.started,
            progress: extension.progress.as_ref().map(Into::into),
            lease_ms: some_millis(extension.duration),
        }
    }
}

impl TryFrom<proto::Extension> for Extension {
    type Error = Error;

    fn try_from(message: proto::Extension) -> Result<Self, Error> {
        let id = id("leases.id", &message.id)?;
        Ok(Extension {
            lease: LeaseRef { id, fence: Fence(message.fence) },
            started: message.started,
            progress: some(message.progress)?,
            duration: not_zero(message.lease_ms),
        })
    }
}

impl From<&Extended> for proto::Extended {
    fn from(extended: &Extended) -> Self {
        proto::Extended {
            id: extended.id.as_str().to_owned(),
            verdict: extended.verdict.to_wire(),
            deadline: micros(extended.deadline),
            cancelled: extended.cancelled,
        }
    }
}

impl TryFrom<proto::Extended> for Extended {
    type Error = Error;

    fn try_from(message: proto::Extended) -> Result<Self, Error> {
        Ok(Extended {
            id: id("id", &message.id)?,
            verdict: Verdict::from_wire(message.verdict)?,
            deadline: time(message.deadline),
            cancelled: message.cancelled,
        })
    }
}
