//! What a plan says of an instance, before a driver says where it is.

use std::path::PathBuf;

use sheaf_dataflow::{Assignment, InputAssignment, OutputAssignment, Peer};
use sheaf_pipeline::plan::{Edge, Plan, PlannedComponent};

/// What the store of durable edges is called beside the instances of a plan, none of which can
/// be called so.
pub(crate) const STORE: &str = "_store";

/// Whether a place is that of a store.
pub(crate) fn is_store(place: &str) -> bool {
    place.split_once(':').is_some_and(|(_, instance)| instance == STORE)
}

/// The assignment of an instance in the first run and pass, without addresses, tokens and
/// [`Plan::graph`], which is the same for all.
pub(crate) fn assignment(plan: &Plan, component: &PlannedComponent, index: u32) -> Assignment {
    let instance = instance(&component.id, index);
    let inputs = plan
        .senders_of(&component.id)
        .map(|edge| InputAssignment { edge: edge.clone(), from: senders(plan, edge, index) });
    let outputs = plan
        .readers_of(&component.id)
        .map(|edge| OutputAssignment { edge: edge.clone(), to: readers(plan, edge, index) });
    Assignment {
        pipeline: plan.pipeline.clone(),
        run: 1,
        pass: 1,
        graph: 0,
        place: place(&plan.pipeline, &instance),
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
        tls: None,
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        durable: None,
        instance,
    }
}

/// The place of an instance in the registry.
pub(crate) fn place(pipeline: &str, instance: &str) -> String {
    format!("{pipeline}:{instance}")
}

/// The name of an instance, as the plan has it.
pub(crate) fn instance(component: &str, index: u32) -> String {
    match index {
        0 => component.to_owned(),
        _ => format!("{component}.{index}"),
    }
}

/// Whom an instance of the reader of an edge reads.
pub(crate) fn senders(plan: &Plan, edge: &Edge, reader: u32) -> Vec<Peer> {
    let streams = edge.streams.iter().filter(|stream| stream.to == reader);
    streams.map(|stream| peer(plan, &edge.from, stream.from)).collect()
}

/// Who reads an instance of the sender of an edge.
pub(crate) fn readers(plan: &Plan, edge: &Edge, sender: u32) -> Vec<Peer> {
    let streams = edge.streams.iter().filter(|stream| stream.from == sender);
    streams.map(|stream| peer(plan, &edge.to, stream.to)).collect()
}

fn peer(plan: &Plan, component: &str, index: u32) -> Peer {
    Peer { place: place(&plan.pipeline, &instance(component, index)), index }
}
