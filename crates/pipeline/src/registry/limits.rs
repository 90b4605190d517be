//! How much the registry takes.

use std::time::Duration;

use sheaf_flight::Target;
use sheaf_retry::HumanDuration;

use super::error::{Error, invalid};
use super::model::{Kind, Metadata, Registration};
use super::pipeline::{Place, Plan};

/// Longest id, incarnation apart.
const MAX_ID_LENGTH: usize = 200;
/// Shortest and longest incarnation.
const INCARNATION_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;
/// Inputs of a component, and outputs.
const MAX_PORTS: usize = 64;
/// Bytes of the schema of one of them.
const MAX_SCHEMA_BYTES: usize = 1 << 20;
/// Bytes of what stands for people: a name, a reason, an address.
const MAX_TEXT_BYTES: usize = 1_000;
/// Further addresses of a component.
const MAX_ENDPOINTS: usize = 16;
/// Bytes of a schema as text, of ours or of a component.
pub(super) const MAX_SCHEMA_TEXT: usize = 64 << 10;
/// Bytes of the file of a pipeline.
const MAX_SPEC_BYTES: usize = 4 << 20;

/// The limits of one registry. What is over them is refused, and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Components and workers, places that nobody has taken included.
    pub components: usize,
    /// Of these, workers: they need no plan, and leave room for those of plans.
    pub workers: usize,
    /// Pipelines, those that stand still included.
    pub pipelines: usize,
    /// Bytes of what components said of themselves, and of files of pipelines.
    pub bytes: usize,
    /// Runs of one pipeline that are remembered.
    pub runs: usize,
    /// Readers of events.
    pub watchers: usize,
    /// Events that one of them may be behind.
    pub watch_buffer: usize,
}

impl Default for Limits {
    /// 10,000 components, half of them workers, 1,000 pipelines, 64 MiB, 100 runs, 256 readers that
    /// may be 1,024 events behind.
    fn default() -> Self {
        Limits {
            components: 10_000,
            workers: 5_000,
            pipelines: 1_000,
            bytes: 64 << 20,
            runs: 100,
            watchers: 256,
            watch_buffer: 1_024,
        }
    }
}

pub(crate) fn at_most(field: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual <= limit {
        return Ok(());
    }
    Err(Error::Limit { field, actual: actual as u64, limit: limit as u64 })
}

/// Ids are those of batches: 1 to 200 characters of `[A-Za-z0-9._:-]`.
pub(crate) fn id(field: &'static str, text: &str) -> Result<(), Error> {
    at_most(field, text.len(), MAX_ID_LENGTH)?;
    if text.is_empty() {
        return Err(invalid(field, "it is empty; ids have 1 to 200 characters"));
    }
    characters(field, text)
}

fn characters(field: &'static str, text: &str) -> Result<(), Error> {
    let is_odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-'));
    match text.chars().find(is_odd) {
        Some(odd) => {
            Err(invalid(field, format!("it is made of letters, digits and . _ : -, not {odd:?}")))
        }
        None => Ok(()),
    }
}

pub(crate) fn text(field: &'static str, text: &str) -> Result<(), Error> {
    at_most(field, text.len(), MAX_TEXT_BYTES)?;
    match text.chars().find(|c| c.is_control()) {
        Some(odd) => Err(invalid(field, format!("the character {odd:?} has no place in it"))),
        None => Ok(()),
    }
}

/// What a reason has to be to be taken: a text that may be long, or of several lines, is one
/// line of at most 900 bytes and perhaps an ellipsis.
pub fn reason(text: &str) -> String {
    const MOST: usize = 900;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MOST {
        let end = (0..=MOST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Checks the form of an incarnation; what is wrong with it is not shown.
pub(super) fn incarnation(text: &str) -> Result<(), Error> {
    const FIELD: &str = "incarnation";
    if !INCARNATION_LENGTH.contains(&text.len()) {
        let (least, most) = INCARNATION_LENGTH.into_inner();
        let problem = format!("{} characters are not between {least} and {most}", text.len());
        return Err(invalid(FIELD, problem));
    }
    characters(FIELD, text)
}

/// Everything about a registration that can be told without the registry.
pub(super) fn registration(asked: &Registration) -> Result<(), Error> {
    id("id", &asked.id)?;
    incarnation(asked.incarnation.expose())?;
    at_most("token", asked.token.expose().len(), MAX_TEXT_BYTES)?;
    address("address", &asked.address)?;
    at_most("endpoints", asked.endpoints.len(), MAX_ENDPOINTS)?;
    asked.endpoints.iter().try_for_each(|endpoint| address("endpoints", endpoint))?;
    if asked.load.is_some() && asked.kind != Kind::Worker {
        return Err(invalid("load", "only workers have one"));
    }
    metadata(&asked.metadata)
}

fn address(field: &'static str, address: &str) -> Result<(), Error> {
    text(field, address)?;
    let read: Result<Target, sheaf_flight::Error> = address.parse();
    read.map(drop).map_err(|error| invalid(field, error.message()))
}

fn metadata(said: &Metadata) -> Result<(), Error> {
    text("metadata.name", &said.name)?;
    text("metadata.version", &said.version)?;
    at_most("metadata.inputs", said.inputs.len(), MAX_PORTS)?;
    at_most("metadata.outputs", said.outputs.len(), MAX_PORTS)?;
    for port in said.inputs.iter().chain(&said.outputs) {
        text("metadata.port", &port.port)?;
        at_most("metadata.ipc_schema", port.ipc_schema.len(), MAX_SCHEMA_BYTES)?;
        at_most("metadata.text", port.text.len(), MAX_SCHEMA_TEXT)?;
    }
    Ok(())
}

fn health(place: &Place) -> Result<(), Error> {
    const MOST: Duration = Duration::from_secs(24 * 3600);
    let health = &place.health;
    for time in [health.every, health.unhealthy_after].into_iter().flatten() {
        if time.is_zero() || time > MOST {
            let (id, time) = (&place.id, HumanDuration(time));
            let problem = format!("{time} of {id} is not between 1ms and 1d");
            return Err(invalid("place.health", problem));
        }
    }
    text("place.health.path", &health.path)?;
    let is_path = health.path.is_empty() || health.path.starts_with('/');
    match is_path && health.path.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(invalid("place.health.path", format!("{:?} is no path", health.path))),
    }
}

/// Everything about a plan that can be told without the registry.
pub(super) fn plan(plan: &Plan, limits: &Limits) -> Result<(), Error> {
    id("pipeline.id", &plan.id)?;
    text("pipeline.name", &plan.name)?;
    text("pipeline.plan_hash", &plan.plan_hash)?;
    at_most("pipeline.spec", plan.spec.len(), MAX_SPEC_BYTES)?;
    at_most("pipeline.places", plan.places.len(), limits.components)?;
    let mut ids = std::collections::BTreeSet::new();
    for place in &plan.places {
        id("place.id", &place.id)?;
        text("place.component", &place.component)?;
        if place.kind == Kind::Worker {
            return Err(invalid("place.type", "workers belong to no pipeline"));
        }
        health(place)?;
        if !ids.insert(&*place.id) {
            return Err(invalid("place.id", format!("{} is there twice", place.id)));
        }
    }
    let connections = plan.places.iter().map(|place| &place.connections);
    let ends = connections.flat_map(|all| all.upstream.iter().chain(&all.downstream));
    for end in ends {
        if !ids.contains(&**end) {
            return Err(invalid("place.connections", format!("{end} is no place of this plan")));
        }
    }
    Ok(())
}
