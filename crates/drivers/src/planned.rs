//! What a plan says of an instance, before a driver says where it is.

use std::path::PathBuf;

use sheaf_dataflow::{Assignment, InputAssignment, OutputAssignment, Peer};
use sheaf_pipeline::plan::{Plan, PlannedComponent, Stream};

/// The assignment of an instance, without addresses and tokens.
pub(crate) fn assignment(plan: &Plan, component: &PlannedComponent, index: u32) -> Assignment {
    let instance = instance(&component.id, index);
    let ends = |streams: &[Stream], own: fn(&Stream) -> u32, other: fn(&Stream) -> u32| {
        let ours = streams.iter().filter(|stream| own(stream) == index);
        ours.map(other).collect::<Vec<u32>>()
    };
    let inputs = plan.senders_of(&component.id).map(|edge| {
        let from = ends(&edge.streams, |stream| stream.to, |stream| stream.from);
        let from = from.into_iter().map(|index| peer(plan, &edge.from, index)).collect();
        InputAssignment { edge: edge.clone(), from }
    });
    let outputs = plan.readers_of(&component.id).map(|edge| {
        let to = ends(&edge.streams, |stream| stream.from, |stream| stream.to);
        let to = to.into_iter().map(|index| peer(plan, &edge.to, index)).collect();
        OutputAssignment { edge: edge.clone(), to }
    });
    Assignment {
        pipeline: plan.pipeline.clone(),
        run: 1,
        place: place(plan, &instance),
        role: component.role,
        index,
        replicas: u32::try_from(component.instances.len()).unwrap_or(u32::MAX),
        definition: component.definition.clone(),
        listen: String::new(),
        advertise_host: None,
        health_listen: String::new(),
        control: String::new(),
        token: String::new(),
        data_token: String::new(),
        state_dir: PathBuf::new(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        durable: None,
        instance,
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
