//! Changes by hand, and events.

use std::time::Duration;

use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::Timestamp;

use super::spec::state;
use super::{from_all, id, ids, millis, not_empty, required, some, texts};
use crate::contract::Error;
use crate::model::State;
use crate::request::{
    Change, Control, ControlReply, Event, PurgeFilter, Settled, Verdict, WatchFilter,
};

impl From<&PurgeFilter> for proto::PurgeFilter {
    fn from(filter: &PurgeFilter) -> Self {
        proto::PurgeFilter {
            queue: filter.queue.clone().unwrap_or_default(),
            states: filter.states.iter().map(|state| state.to_wire()).collect(),
            finished_before_ms: millis(filter.finished_before),
        }
    }
}

impl TryFrom<proto::PurgeFilter> for PurgeFilter {
    type Error = Error;

    fn try_from(message: proto::PurgeFilter) -> Result<Self, Error> {
        Ok(PurgeFilter {
            queue: not_empty(message.queue),
            states: message.states.into_iter().map(State::from_wire).collect::<Result<_, _>>()?,
            finished_before: Duration::from_millis(message.finished_before_ms),
        })
    }
}

impl From<&Control> for proto::ControlRequest {
    fn from(control: &Control) -> Self {
        use proto::control_request::Control as Wire;
        let control = match control {
            Control::Pause(queue) => Wire::Pause(queue.clone()),
            Control::Resume(queue) => Wire::Resume(queue.clone()),
            Control::Drain(queue) => Wire::Drain(queue.clone()),
            Control::Configure(queue, policy) => {
                let policy = Some(policy.into());
                Wire::Configure(proto::Configure { queue: queue.clone(), policy })
            }
            Control::Cancel(ids) => Wire::Cancel(proto::Ids { ids: texts(ids) }),
            Control::Requeue(ids) => Wire::Requeue(proto::Ids { ids: texts(ids) }),
            Control::RequeueFailed(queue) => Wire::RequeueFailed(queue.clone()),
            Control::Purge(filter) => Wire::Purge(filter.into()),
            Control::Expire(age) => Wire::ExpireOlderThanMs(millis(*age)),
        };
        proto::ControlRequest { control: Some(control) }
    }
}

impl TryFrom<proto::ControlRequest> for Control {
    type Error = Error;

    fn try_from(message: proto::ControlRequest) -> Result<Self, Error> {
        use proto::control_request::Control as Wire;
        Ok(match required("control", message.control)? {
            Wire::Pause(queue) => Control::Pause(queue),
            Wire::Resume(queue) => Control::Resume(queue),
            Wire::Drain(queue) => Control::Drain(queue),
            Wire::Configure(configure) => {
                let policy = required("configure.policy", configure.policy)?;
                Control::Configure(configure.queue, policy.try_into()?)
            }
            Wire::Cancel(list) => Control::Cancel(ids("cancel.ids", &list.ids)?),
            Wire::Requeue(list) => Control::Requeue(ids("requeue.ids", &list.ids)?),
            Wire::RequeueFailed(queue) => Control::RequeueFailed(queue),
            Wire::Purge(filter) => Control::Purge(filter.try_into()?),
            Wire::ExpireOlderThanMs(age) => Control::Expire(Duration::from_millis(age)),
        })
    }
}

impl From<&Settled> for proto::Changed {
    fn from(settled: &Settled) -> Self {
        proto::Changed {
            id: settled.id.as_str().to_owned(),
            verdict: settled.verdict.to_wire(),
            state: settled.state.map_or(0, State::to_wire),
        }
    }
}

impl TryFrom<proto::Changed> for Settled {
    type Error = Error;

    fn try_from(message: proto::Changed) -> Result<Self, Error> {
        Ok(Settled {
            id: id("id", &message.id)?,
            verdict: Verdict::from_wire(message.verdict)?,
            state: state(message.state)?,
        })
    }
}

impl From<&ControlReply> for proto::ControlResponse {
    fn from(reply: &ControlReply) -> Self {
        proto::ControlResponse {
            batches: reply.batches.iter().map(proto::Changed::from).collect(),
            count: reply.count,
        }
    }
}

impl TryFrom<proto::ControlResponse> for ControlReply {
    type Error = Error;

    fn try_from(message: proto::ControlResponse) -> Result<Self, Error> {
        Ok(ControlReply { batches: from_all(message.batches)?, count: message.count })
    }
}

impl From<&WatchFilter> for proto::WatchRequest {
    fn from(filter: &WatchFilter) -> Self {
        proto::WatchRequest {
            queue: filter.queue.clone().unwrap_or_default(),
            ids: texts(&filter.ids),
            states: filter.states.iter().map(|state| state.to_wire()).collect(),
        }
    }
}

impl TryFrom<proto::WatchRequest> for WatchFilter {
    type Error = Error;

    fn try_from(message: proto::WatchRequest) -> Result<Self, Error> {
        Ok(WatchFilter {
            queue: not_empty(message.queue),
            ids: ids("ids", &message.ids)?,
            states: message.states.into_iter().map(State::from_wire).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Event> for proto::WatchEvent {
    fn from(event: &Event) -> Self {
        let change = match event {
            Event::Changed(change) => change,
            Event::Missed(missed) => {
                return proto::WatchEvent { missed: *missed, ..proto::WatchEvent::default() };
            }
        };
        proto::WatchEvent {
            id: change.id.as_str().to_owned(),
            queue: change.queue.clone(),
            from: change.from.map_or(0, State::to_wire),
            to: change.to.map_or(0, State::to_wire),
            at: change.at.as_micros(),
            worker: change.worker.clone().unwrap_or_default(),
            error: change.error.as_ref().map(Into::into),
            attempts: change.attempts,
            missed: 0,
        }
    }
}

impl TryFrom<proto::WatchEvent> for Event {
    type Error = Error;

    fn try_from(message: proto::WatchEvent) -> Result<Self, Error> {
        if message.missed > 0 {
            return Ok(Event::Missed(message.missed));
        }
        Ok(Event::Changed(Change {
            id: id("id", &message.id)?,
            queue: message.queue,
            from: state(message.from)?,
            to: state(message.to)?,
            at: Timestamp::from_micros(message.at),
            worker: not_empty(message.worker),
            error: some(message.error)?,
            attempts: message.attempts,
        }))
    }
}
