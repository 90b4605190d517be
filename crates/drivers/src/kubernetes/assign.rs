//! What the components of a plan are told when nothing but the cluster starts them.

use std::path::PathBuf;

use sheaf_dataflow::{Assignment, InputAssignment, OutputAssignment, Peer};
use sheaf_pipeline::plan::{Edge, Instance, Plan, PlannedComponent};
use sheaf_pipeline::spec::Component;

use super::pod::STATE;
use super::settings::{CONTROL_PORT, Settings};
use super::{Tokens, names};
use crate::ports::Ports;

/// The assignment of an instance. `definition` is that of the component, with what its
/// references mean in the cluster.
pub(crate) fn assignment(
    settings: &Settings,
    plan: &Plan,
    (component, definition): (&PlannedComponent, &Component),
    instance: &Instance,
    (replicas, host): (u32, String),
    tokens: &Tokens,
) -> Assignment {
    let place = place(plan, &instance.id);
    let port = Ports::of(&component.definition);
    let namespace = &settings.namespace;
    let control = names::of_pipeline(&plan.pipeline, "control");
    let inputs = plan.senders_of(&component.id).map(|edge| {
        let from = |stream: &sheaf_pipeline::plan::Stream| {
            (stream.to == instance.index).then_some(stream.from)
        };
        let from = edge.streams.iter().filter_map(from);
        InputAssignment {
            edge: Edge::clone(edge),
            from: from.map(|index| peer(plan, &edge.from, index)).collect(),
        }
    });
    let outputs = plan.readers_of(&component.id).map(|edge| {
        let to = |stream: &sheaf_pipeline::plan::Stream| {
            (stream.from == instance.index).then_some(stream.to)
        };
        let to = edge.streams.iter().filter_map(to);
        OutputAssignment {
            edge: Edge::clone(edge),
            to: to.map(|index| peer(plan, &edge.to, index)).collect(),
        }
    });
    Assignment {
        pipeline: plan.pipeline.clone(),
        run: 1,
        role: component.role,
        instance: instance.id.clone(),
        index: instance.index,
        replicas,
        definition: definition.clone(),
        listen: format!("0.0.0.0:{}", port.flight),
        advertise_host: Some(host),
        health_listen: format!("0.0.0.0:{}", port.health),
        control: format!("grpc://{control}.{namespace}.svc:{CONTROL_PORT}"),
        token: tokens.place(&place).to_owned(),
        data_token: tokens.data().to_owned(),
        state_dir: PathBuf::from(STATE),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        place,
    }
}

/// The place of an instance in the registry.
pub(crate) fn place(plan: &Plan, instance: &str) -> String {
    format!("{}:{instance}", plan.pipeline)
}

/// The name of an instance, as the plan has it.
pub(crate) fn instance(component: &str, index: u32) -> String {
    match index {
        0 => component.to_owned(),
        _ => format!("{component}.{index}"),
    }
}

fn peer(plan: &Plan, component: &str, index: u32) -> Peer {
    Peer { place: place(plan, &instance(component, index)), index }
}
