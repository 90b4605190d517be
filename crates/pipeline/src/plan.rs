//! From a pipeline to what runs: instances, edges, the order of starts and
//! stops, and what changes from one plan to the next.

mod diff;
mod hash;
mod order;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::spec::{Component, DEFAULT_SPILL_LIMIT, Input, Partitioning, Pipeline, Policy, Role};

pub use diff::{Change, Diff};
pub use hash::DefinitionHash;

/// What a pipeline comes to. Pure: the same file gives the same plan, on every
/// driver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The name of the pipeline.
    pub pipeline: String,
    /// Components, each after all that it reads.
    pub components: Vec<PlannedComponent>,
    /// Edges, in the order of their readers and of `inputs`.
    pub edges: Vec<Edge>,
}

/// One component of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedComponent {
    /// What the file calls it.
    pub id: String,
    /// What it is to the pipeline.
    pub role: Role,
    /// The length of the longest way to it: 0 for sources.
    pub depth: usize,
    /// What it is to do and how it is run; its inputs and replicas are in the
    /// edges and instances.
    pub definition: Component,
    /// Equal as long as its processes need not be started anew.
    pub hash: DefinitionHash,
    /// One for each replica.
    pub instances: Vec<Instance>,
}

/// One process or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// The component's identifier for the first one, `ID.N` for instance N: it
    /// stays what it is when others come and go.
    pub id: String,
    /// Which one, from 0.
    pub index: u32,
    /// The port to serve on; 0 for a free one.
    pub port: u16,
    /// The port of `/health`; 0 for a free one.
    pub health_port: u16,
}

/// What goes from one component to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// `FROM:TO`.
    pub id: String,
    /// The component that sends.
    pub from: String,
    /// The component that reads.
    pub to: String,
    /// What happens when the reader is the slower one.
    pub policy: Policy,
    /// Which instance of the reader gets a row.
    pub partitioning: Partitioning,
    /// Batches on their way, per stream.
    pub credits: u32,
    /// Whether batches go through store and coordinator.
    pub durable: bool,
    /// What may wait on disk, where the policy is `spill`.
    pub spill_limit_bytes: Option<u64>,
    /// Which instances talk to which, by their index.
    pub streams: Vec<Stream>,
}

/// A stream between two instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stream {
    /// The instance that sends.
    pub from: u32,
    /// The instance that reads.
    pub to: u32,
}

impl Plan {
    /// The plan of a checked pipeline.
    ///
    /// ```
    /// # let text = "{apiVersion: sheaf.dev/v1, kind: Pipeline, metadata: {name: p}, sources: [
    /// #   {id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}], sinks: [
    /// #   {id: b, kind: stdout, inputs: [a]}]}";
    /// # let pipeline = sheaf_pipeline::check::check("p.yaml", text)?.pipeline;
    /// let plan = sheaf_pipeline::plan::Plan::new(&pipeline);
    /// // Who reads is up before who sends; who sends is stopped before who reads.
    /// assert_eq!(plan.start_order(), [["b"], ["a"]]);
    /// assert_eq!(plan.stop_order(), [["a"], ["b"]]);
    /// # Ok::<(), sheaf_pipeline::diagnostics::Report>(())
    /// ```
    pub fn new(pipeline: &Pipeline) -> Self {
        let replicas: HashMap<&str, u32> =
            pipeline.components().map(|(_, one)| (one.id.as_str(), one.replicas)).collect();
        let depths = order::depths(pipeline);
        let mut components: Vec<PlannedComponent> = pipeline
            .components()
            .map(|(role, component)| {
                let depth = depths.get(component.id.as_str()).copied().unwrap_or_default();
                PlannedComponent::new(role, depth, component)
            })
            .collect();
        components.sort_by_key(|component| component.depth);
        let edges = pipeline.components().flat_map(|(_, reader)| {
            let replicas = &replicas;
            reader.inputs.iter().map(move |input| {
                let senders = replicas.get(input.from.as_str()).copied().unwrap_or(1);
                Edge::new(input, reader, senders, pipeline.durable)
            })
        });
        Plan { pipeline: pipeline.metadata.name.clone(), edges: edges.collect(), components }
    }

    /// The component of this name.
    pub fn component(&self, id: &str) -> Option<&PlannedComponent> {
        self.components.iter().find(|component| component.id == id)
    }

    /// The edge of this name.
    pub fn edge(&self, id: &str) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.id == id)
    }

    /// The edges that lead out of a component.
    pub fn readers_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Edge> {
        self.edges.iter().filter(move |edge| edge.from == id)
    }

    /// The edges that lead into a component.
    pub fn senders_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Edge> {
        self.edges.iter().filter(move |edge| edge.to == id)
    }

    /// Another number where components, their instances or the streams between them are others.
    /// Below 2^53, so that any language reads it.
    pub fn graph(&self) -> u64 {
        let components = self.components.iter().map(|one| (&one.id, one.instances.len()));
        let edges = self.edges.iter().map(|edge| (&edge.id, edge.durable, &edge.streams));
        let both: (Vec<_>, Vec<_>) = (components.collect(), edges.collect());
        let text = serde_json::to_string(&both).unwrap_or_default();
        XxHash3_64::oneshot(text.as_bytes()) >> 11
    }

    /// How many instances there are.
    pub fn instance_count(&self) -> usize {
        self.components.iter().map(|component| component.instances.len()).sum()
    }
}

impl PlannedComponent {
    fn new(role: Role, depth: usize, component: &Component) -> Self {
        let mut definition = component.clone();
        definition.inputs = Vec::new();
        definition.replicas = 1;
        let instances = (0..component.replicas).map(|index| Instance::new(component, index));
        PlannedComponent {
            id: component.id.clone(),
            role,
            depth,
            hash: DefinitionHash::of(role, &definition),
            instances: instances.collect(),
            definition,
        }
    }
}

impl Instance {
    fn new(component: &Component, index: u32) -> Self {
        let id = match index {
            0 => component.id.clone(),
            _ => format!("{}.{index}", component.id),
        };
        // The check has seen that the last one is a port.
        let offset = u16::try_from(index).unwrap_or(u16::MAX);
        let port = |first: u16| if first == 0 { 0 } else { first.saturating_add(offset) };
        Instance { id, index, port: port(component.port), health_port: port(component.health.port) }
    }
}

impl Edge {
    fn new(input: &Input, reader: &Component, senders: u32, durable: bool) -> Self {
        let partitioning = input.partitioning.clone().unwrap_or(match senders == reader.replicas {
            true => Partitioning::Forward,
            false => Partitioning::RoundRobin,
        });
        let streams = streams(&partitioning, senders, reader.replicas);
        Edge {
            id: format!("{}:{}", input.from, reader.id),
            from: input.from.clone(),
            to: reader.id.clone(),
            policy: input.policy,
            partitioning,
            credits: input.credits,
            durable: input.durable.unwrap_or(durable),
            spill_limit_bytes: (input.policy == Policy::Spill)
                .then(|| input.spill_limit.unwrap_or(DEFAULT_SPILL_LIMIT).0),
            streams,
        }
    }
}

/// Which instances talk to which.
fn streams(partitioning: &Partitioning, senders: u32, readers: u32) -> Vec<Stream> {
    match partitioning {
        Partitioning::Forward => {
            (0..senders.min(readers)).map(|index| Stream { from: index, to: index }).collect()
        }
        Partitioning::Broadcast | Partitioning::RoundRobin | Partitioning::Hash(_) => {
            (0..senders).flat_map(|from| (0..readers).map(move |to| Stream { from, to })).collect()
        }
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
