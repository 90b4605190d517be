//! Between the registry's own types and those that cross process borders.

use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_proto::control::v1 as proto;
use sheaf_retry::Timestamp;

use super::error::{Error, invalid};
use super::model::{Beat, Change, Component, Filter, Held, Kind, Now, Registration, Status};
use super::pipeline::{Generation, Pipeline, PipelineState, Place, PlaceHealth, Plan, Run};
use super::token::TokenDigest;
use super::{Event, limits};

/// Ids in one filter.
const MAX_IDS: usize = 10_000;

impl Kind {
    pub(crate) fn to_wire(self) -> proto::ComponentType {
        match self {
            Kind::Source => proto::ComponentType::Source,
            Kind::Processor => proto::ComponentType::Processor,
            Kind::Sink => proto::ComponentType::Sink,
            Kind::Worker => proto::ComponentType::Worker,
        }
    }

    pub(crate) fn from_wire(number: i32) -> Result<Self, Error> {
        let found = Kind::ALL.into_iter().find(|kind| i32::from(kind.to_wire()) == number);
        found.ok_or_else(|| {
            let problem = format!("{number} is none of source 1, processor 2, sink 3, worker 4");
            invalid("type", problem)
        })
    }
}

impl Status {
    pub(crate) fn to_wire(self) -> proto::ComponentStatus {
        match self {
            Status::Expected => proto::ComponentStatus::Expected,
            Status::Healthy => proto::ComponentStatus::Healthy,
            Status::Unhealthy => proto::ComponentStatus::Unhealthy,
            Status::Stopped => proto::ComponentStatus::Stopped,
            Status::Exited => proto::ComponentStatus::Exited,
        }
    }

    pub(crate) fn from_wire(number: i32) -> Result<Self, Error> {
        let found = Status::ALL.into_iter().find(|status| i32::from(status.to_wire()) == number);
        found.ok_or_else(|| invalid("status", format!("{number} is not between 1 and 5")))
    }
}

impl PipelineState {
    pub(crate) fn to_wire(self) -> proto::PipelineState {
        match self {
            PipelineState::Starting => proto::PipelineState::Starting,
            PipelineState::Running => proto::PipelineState::Running,
            PipelineState::Stopping => proto::PipelineState::Stopping,
            PipelineState::Stopped => proto::PipelineState::Stopped,
            PipelineState::Failed => proto::PipelineState::Failed,
        }
    }

    pub(crate) fn from_wire(number: i32) -> Result<Self, Error> {
        let found =
            PipelineState::ALL.into_iter().find(|state| i32::from(state.to_wire()) == number);
        found.ok_or_else(|| invalid("state", format!("{number} is not between 1 and 5")))
    }
}

fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn maybe(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| time(micros))
}

fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

/// A component as everybody may see it.
pub(crate) fn component(component: &Component) -> proto::Component {
    let Component { id, kind, status, reason, address, health_endpoint, endpoints, .. } = component;
    proto::Component {
        id: id.clone(),
        r#type: kind.to_wire().into(),
        status: status.to_wire().into(),
        reason: reason.clone(),
        address: address.clone(),
        health_endpoint: health_endpoint.clone(),
        endpoints: endpoints.clone(),
        last_heartbeat: component.last_heartbeat.as_micros(),
        registered_at: component.registered_at.as_micros(),
        metadata: Some(component.metadata.clone()),
        connections: Some(component.connections.clone()),
        pipeline: component.pipeline.clone(),
        component: component.component.clone(),
        replica: component.replica,
        fence: component.fence,
        progress: component.progress,
        load: component.load,
        restarts: component.restarts,
        totals: component.totals,
    }
}

/// The way back; who holds it is not said there.
pub(crate) fn component_from(message: proto::Component) -> Result<Component, Error> {
    Ok(Component {
        kind: Kind::from_wire(message.r#type)?,
        status: Status::from_wire(message.status)?,
        id: message.id,
        reason: message.reason,
        address: message.address,
        health_endpoint: message.health_endpoint,
        endpoints: message.endpoints,
        last_heartbeat: time(message.last_heartbeat),
        registered_at: time(message.registered_at),
        metadata: message.metadata.unwrap_or_default(),
        connections: message.connections.unwrap_or_default(),
        pipeline: message.pipeline,
        component: message.component,
        replica: message.replica,
        fence: message.fence,
        progress: message.progress,
        load: message.load,
        restarts: message.restarts,
        totals: message.totals,
        held: Held::nobody(Now::start(Timestamp::EPOCH)),
    })
}

pub(crate) fn registration(
    message: proto::RegisterComponentRequest,
) -> Result<Registration, Error> {
    Ok(Registration {
        kind: Kind::from_wire(message.r#type)?,
        id: message.id,
        token: Secret::new(message.token),
        incarnation: Secret::new(message.incarnation),
        address: message.address,
        health_endpoint: message.health_endpoint,
        endpoints: message.endpoints,
        metadata: message.metadata.unwrap_or_default(),
        load: message.load,
    })
}

pub(crate) fn register_request(asked: &Registration) -> proto::RegisterComponentRequest {
    proto::RegisterComponentRequest {
        id: asked.id.clone(),
        r#type: asked.kind.to_wire().into(),
        token: asked.token.expose().to_owned(),
        incarnation: asked.incarnation.expose().to_owned(),
        address: asked.address.clone(),
        health_endpoint: asked.health_endpoint.clone(),
        endpoints: asked.endpoints.clone(),
        metadata: Some(asked.metadata.clone()),
        load: asked.load,
    }
}

pub(crate) fn beat(message: proto::HeartbeatRequest) -> Beat {
    let proto::HeartbeatRequest { id, incarnation, sequence, progress, load } = message;
    Beat { id, incarnation: Secret::new(incarnation), sequence, progress, load }
}

pub(crate) fn filter(message: Option<proto::ComponentFilter>) -> Result<Filter, Error> {
    let Some(message) = message else { return Ok(Filter::default()) };
    limits::at_most("filter.types", message.types.len(), MAX_IDS)?;
    limits::at_most("filter.statuses", message.statuses.len(), MAX_IDS)?;
    limits::at_most("filter.ids", message.ids.len(), MAX_IDS)?;
    message.ids.iter().try_for_each(|id| limits::id("filter.ids", id))?;
    if !message.pipeline.is_empty() {
        limits::id("filter.pipeline", &message.pipeline)?;
    }
    let kinds: Result<_, Error> = message.types.into_iter().map(Kind::from_wire).collect();
    let statuses: Result<_, Error> = message.statuses.into_iter().map(Status::from_wire).collect();
    Ok(Filter { kinds: kinds?, statuses: statuses?, pipeline: message.pipeline, ids: message.ids })
}

pub(crate) fn filter_message(filter: &Filter) -> proto::ComponentFilter {
    proto::ComponentFilter {
        types: filter.kinds.iter().map(|kind| kind.to_wire().into()).collect(),
        statuses: filter.statuses.iter().map(|status| status.to_wire().into()).collect(),
        pipeline: filter.pipeline.clone(),
        ids: filter.ids.clone(),
    }
}

pub(crate) fn event(event: &Event) -> proto::ComponentEvent {
    use proto::component_event::Event as Wire;
    let event = match event {
        Event::Changed(change) => Wire::Changed(proto::ComponentChange {
            component: Some(component(&change.component)),
            before: change.before.map_or(0, |before| before.to_wire().into()),
            at: change.at.as_micros(),
            removed: change.removed,
        }),
        Event::Missed(count) => Wire::Missed(*count),
        Event::Current(count) => Wire::Current(*count),
    };
    proto::ComponentEvent { event: Some(event) }
}

pub(crate) fn event_from(message: proto::ComponentEvent) -> Result<Event, Error> {
    use proto::component_event::Event as Wire;
    match message.event.ok_or_else(|| invalid("event", "it is missing"))? {
        Wire::Changed(change) => {
            let component = change.component.ok_or_else(|| invalid("component", "is missing"))?;
            let before = match change.before {
                0 => None,
                number => Some(Status::from_wire(number)?),
            };
            let component = std::sync::Arc::new(component_from(component)?);
            let (at, removed) = (time(change.at), change.removed);
            Ok(Event::Changed(std::sync::Arc::new(Change { component, before, at, removed })))
        }
        Wire::Missed(count) => Ok(Event::Missed(count)),
        Wire::Current(count) => Ok(Event::Current(count)),
    }
}

/// A pipeline as everybody may see it: without its tokens.
pub(crate) fn pipeline(pipeline: &Pipeline, with_spec: bool) -> proto::Pipeline {
    let Pipeline { plan, state, reason, .. } = pipeline;
    let nodes = plan.places.iter().map(|place| proto::PipelineNode {
        id: place.id.clone(),
        component: place.component.clone(),
        r#type: place.kind.to_wire().into(),
        replica: place.replica,
        connections: Some(place.connections.clone()),
        heartbeat_ms: millis(place.health.every),
        unhealthy_after_ms: millis(place.health.unhealthy_after),
        health_path: place.health.path.clone(),
    });
    let runs = pipeline.runs.iter().map(|run| proto::Run {
        number: run.number,
        plan_hash: run.plan_hash.clone(),
        started_at: run.started_at.as_micros(),
        stopped_at: run.end.map_or(0, |(at, _)| at.as_micros()),
        outcome: run.end.map_or(0, |(_, outcome)| outcome.to_wire().into()),
        reason: run.reason.clone(),
        generations: run.generations.iter().map(generation).collect(),
        totals: run.totals,
    });
    proto::Pipeline {
        id: plan.id.clone(),
        name: plan.name.clone(),
        state: state.to_wire().into(),
        reason: reason.clone(),
        spec: if with_spec { plan.spec.to_string() } else { String::new() },
        plan_hash: plan.plan_hash.clone(),
        created_at: pipeline.created_at.as_micros(),
        started_at: micros(pipeline.started_at),
        stopped_at: micros(pipeline.stopped_at),
        topology: nodes.collect(),
        runs: runs.collect(),
    }
}

fn generation(one: &Generation) -> proto::Generation {
    proto::Generation {
        number: one.number,
        plan_hash: one.plan_hash.clone(),
        since: one.since.as_micros(),
        changes: one.changes.clone(),
    }
}

fn generation_from(one: proto::Generation) -> Generation {
    let proto::Generation { number, plan_hash, since, changes } = one;
    Generation { number, plan_hash, since: time(since), changes }
}

fn millis(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn duration(millis: u64) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// The way back; `tokens` are those of the places, in their order.
pub(crate) fn pipeline_from(
    message: proto::Pipeline,
    tokens: &[TokenDigest],
    last_run: u64,
) -> Result<Pipeline, Error> {
    if tokens.len() != message.topology.len() {
        let (have, need) = (tokens.len(), message.topology.len());
        return Err(invalid("tokens", format!("{have} tokens for {need} places")));
    }
    let nodes = message.topology.into_iter().zip(tokens);
    let places: Result<Vec<Place>, Error> = nodes
        .map(|(node, token)| {
            Ok(Place {
                kind: Kind::from_wire(node.r#type)?,
                id: node.id,
                component: node.component,
                replica: node.replica,
                connections: node.connections.unwrap_or_default(),
                token: *token,
                health: PlaceHealth {
                    every: duration(node.heartbeat_ms),
                    unhealthy_after: duration(node.unhealthy_after_ms),
                    path: node.health_path,
                },
            })
        })
        .collect();
    let runs: Result<Vec<Run>, Error> = message.runs.into_iter().map(run_from).collect();
    Ok(Pipeline {
        plan: Plan {
            id: message.id,
            name: message.name,
            spec: message.spec.into(),
            plan_hash: message.plan_hash,
            places: places?,
        },
        state: PipelineState::from_wire(message.state)?,
        reason: message.reason,
        created_at: time(message.created_at),
        started_at: maybe(message.started_at),
        stopped_at: maybe(message.stopped_at),
        runs: runs?,
        last_run,
    })
}

fn run_from(run: proto::Run) -> Result<Run, Error> {
    let end = match run.outcome {
        0 => None,
        outcome => Some((time(run.stopped_at), PipelineState::from_wire(outcome)?)),
    };
    Ok(Run {
        number: run.number,
        plan_hash: run.plan_hash,
        started_at: time(run.started_at),
        end,
        reason: run.reason,
        generations: run.generations.into_iter().map(generation_from).collect(),
        totals: run.totals,
    })
}

/// A pipeline as it was shown: its tokens are not known, and nobody has them.
pub(crate) fn shown_pipeline(message: proto::Pipeline) -> Result<Pipeline, Error> {
    let tokens = vec![TokenDigest::NONE; message.topology.len()];
    let last_run = message.runs.last().map_or(0, |run| run.number);
    pipeline_from(message, &tokens, last_run)
}
