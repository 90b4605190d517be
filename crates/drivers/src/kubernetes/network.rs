//! Who may connect to whom: the plan's edges and the control plane, and nobody else.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sheaf_dataflow::{Assignment, DurableAssignment};
use sheaf_pipeline::plan::{Plan, PlannedComponent};

use super::settings::CONTROL_PORT;
use super::{names, state};
use crate::ports::Ports;

type Labels = std::collections::BTreeMap<String, String>;

/// A policy object of these rules.
pub(crate) fn policy(metadata: ObjectMeta, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy { metadata, spec: Some(spec) }
}

/// A component is connected to by those that read it and by the control plane, which looks at
/// its health. It connects to those that it reads, to the control plane and to servers of
/// names; to the port of the store where an edge of it is durable; and anywhere, where its kind
/// speaks to other systems: who lets it in is theirs.
pub(crate) fn of_component(
    plan: &Plan,
    component: &PlannedComponent,
    store: Option<&DurableAssignment>,
) -> NetworkPolicySpec {
    let pipeline = &plan.pipeline;
    let own = Ports::of(&component.definition);
    let control = || peer(names::control_selector(pipeline));
    let readers: Vec<NetworkPolicyPeer> = plan
        .readers_of(&component.id)
        .map(|edge| peer(names::selector(pipeline, &edge.to)))
        .collect();
    let mut ingress = vec![from(vec![control()], own.health)];
    if !readers.is_empty() {
        ingress.insert(0, from(readers, own.flight));
    }
    let mut egress: Vec<NetworkPolicyEgressRule> = plan
        .senders_of(&component.id)
        .filter_map(|edge| plan.component(&edge.from))
        .map(|sender| {
            let to_it = peer(names::selector(pipeline, &sender.id));
            to(vec![to_it], Ports::of(&sender.definition).flight)
        })
        .collect();
    egress.push(to(vec![control()], CONTROL_PORT));
    egress.push(name_servers());
    egress.extend(store.into_iter().flat_map(to_store));
    if state::speaks_to_others(component.role, &component.definition) {
        egress.push(anywhere());
    }
    rules(names::selector(pipeline, &component.id), ingress, egress)
}

/// The same for one launch. Where the control plane is, and on which ports others serve, only
/// they know: so its health may be looked at from anywhere, and it may connect to the control
/// plane's port anywhere, and to any port of those that it reads.
pub(crate) fn of_launch(assignment: &Assignment, pods: Labels) -> NetworkPolicySpec {
    let (pipeline, definition) = (&assignment.pipeline, &assignment.definition);
    let own = Ports::of(definition);
    let one = |component: &str| peer(names::selector(pipeline, component));
    let readers: Vec<_> = assignment.outputs.iter().map(|output| one(&output.edge.to)).collect();
    let senders: Vec<_> = assignment.inputs.iter().map(|input| one(&input.edge.from)).collect();
    let health =
        NetworkPolicyIngressRule { from: None, ports: Some(vec![port("TCP", own.health)]) };
    let mut ingress = vec![health];
    if !readers.is_empty() {
        ingress.insert(0, from(readers, own.flight));
    }
    let mut egress = vec![name_servers()];
    if !senders.is_empty() {
        egress.insert(0, NetworkPolicyEgressRule { to: Some(senders), ports: None });
    }
    egress.extend(to_port_of(&assignment.control));
    egress.extend(assignment.durable.iter().flat_map(to_store));
    if state::speaks_to_others(assignment.role, definition) {
        egress.push(anywhere());
    }
    rules(pods, ingress, egress)
}

/// The control plane is connected to by the components of its pipeline, and connects to their
/// health ports.
pub(crate) fn of_control(plan: &Plan) -> NetworkPolicySpec {
    let pipeline = &plan.pipeline;
    let of_pipeline = Labels::from([(names::PIPELINE.to_owned(), pipeline.clone())]);
    let ingress = vec![from(vec![peer(of_pipeline)], CONTROL_PORT)];
    let mut egress: Vec<NetworkPolicyEgressRule> = plan
        .components
        .iter()
        .map(|component| {
            let to_it = peer(names::selector(pipeline, &component.id));
            to(vec![to_it], Ports::of(&component.definition).health)
        })
        .collect();
    egress.push(name_servers());
    rules(names::control_selector(pipeline), ingress, egress)
}

fn rules(
    pods: Labels,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pods)),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ingress: Some(ingress),
        egress: Some(egress),
    }
}

fn selector(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn peer(labels: Labels) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(labels)), ..NetworkPolicyPeer::default() }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number.into())),
        ..NetworkPolicyPort::default()
    }
}

fn from(peers: Vec<NetworkPolicyPeer>, number: u16) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: Some(peers), ports: Some(vec![port("TCP", number)]) }
}

fn to(peers: Vec<NetworkPolicyPeer>, number: u16) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(peers), ports: Some(vec![port("TCP", number)]) }
}

/// Where the store runs, the plan does not say.
fn to_store(store: &DurableAssignment) -> Vec<NetworkPolicyEgressRule> {
    let mut addresses = vec![&store.store, &store.coordinator];
    addresses.dedup();
    addresses.into_iter().filter_map(|address| to_port_of(address)).collect()
}

/// Anywhere, but to this port alone.
fn to_port_of(address: &str) -> Option<NetworkPolicyEgressRule> {
    let number = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())?;
    Some(NetworkPolicyEgressRule { to: None, ports: Some(vec![port("TCP", number)]) })
}

fn name_servers() -> NetworkPolicyEgressRule {
    let ports = vec![port("UDP", 53), port("TCP", 53)];
    NetworkPolicyEgressRule { to: None, ports: Some(ports) }
}

fn anywhere() -> NetworkPolicyEgressRule {
    let block = |cidr: &str| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: None }),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyEgressRule { to: Some(vec![block("0.0.0.0/0"), block("::/0")]), ports: None }
}
