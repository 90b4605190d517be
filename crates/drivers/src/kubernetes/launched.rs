//! The objects of one launch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sheaf_dataflow::{Assignment, TlsAssignment};
use sheaf_flight::Secret as Value;
use sheaf_pipeline::spec::{Component, Reference, Text};

use super::pod::{ASSIGNMENTS, Of, STATE, from_secret};
use super::secrets::{Secrets, Wanted};
use super::settings::{RenderError, Settings};
use super::{names, network, state, workload};
use crate::ports::Ports;
use crate::{Launch, LaunchId};

/// The annotation with the place in the registry: a label may not have a colon.
const PLACE: &str = "sheaf.dev/place";
/// The key of the assignment in the secret of a launch.
const ASSIGNMENT: &str = "0.json";

/// The objects of one launch.
pub(crate) struct Launched {
    /// The assignment, and the resolved environment: gone with the launch.
    pub(crate) secret: Secret,
    /// Of the place, as the following ones: it stays for the next launch.
    pub(crate) service: Service,
    pub(crate) policy: NetworkPolicy,
    pub(crate) volume: Option<PersistentVolumeClaim>,
    pub(crate) pod: Pod,
}

impl Launched {
    /// What has to be looked up for a launch: what its configuration refers to. The
    /// environment comes resolved.
    pub(crate) fn wanted(launch: &Launch) -> Vec<Wanted> {
        let component = by_cluster(&launch.assignment.definition);
        Secrets::of(&pod_name(&launch.id), &component).0.wanted
    }

    /// What a launch comes to, with what was looked up: keys and values. Pure.
    pub(crate) fn of(
        settings: &Settings,
        launch: &Launch,
        found: &[(String, Value)],
    ) -> Result<Self, RenderError> {
        let assignment = &launch.assignment;
        let component = &by_cluster(&assignment.definition);
        let name = names::of_component(&assignment.pipeline, &assignment.instance);
        let pod_name = pod_name(&launch.id);
        let (secrets, definition) = Secrets::of(&pod_name, component);
        let selector = pods(&assignment.pipeline, &assignment.instance);
        let metadata = |name: &str| metadata(settings, launch, name);
        let edges = assignment.outputs.iter().map(|output| &output.edge);
        let bytes = state::volume_bytes(settings, (assignment.role, component), edges);
        let spec = Of {
            settings,
            pipeline: &assignment.pipeline,
            component,
            secrets: &secrets,
            assignments: &pod_name,
            assignment: (format!("{ASSIGNMENTS}/{ASSIGNMENT}"), environment(launch, &pod_name)),
            claim: bytes.is_some().then_some(name.as_str()),
            claimed: false,
        };
        let mut spec = spec.spec()?;
        spec.restart_policy = Some("Never".to_owned());
        // There may be no account of this name: nothing is asked of the cluster by a pod.
        spec.service_account_name = None;
        if assignment.tls.is_some() {
            ask_securely(&mut spec);
        }
        let host = format!("{name}.{}.svc", settings.namespace);
        let (tls, files) = assignment.tls.as_ref().map(secure).transpose()?.unzip();
        let told = Assignment { tls, ..placed(assignment, definition, host) };
        let found: Vec<(String, Value)> =
            found.iter().cloned().chain(files.unwrap_or_default()).collect();
        let policy = network::of_launch(assignment, selector.clone());
        Ok(Launched {
            secret: secret(metadata(&pod_name), launch, &found, &told)?,
            service: workload::service(metadata(&name), component, selector),
            policy: network::policy(metadata(&name), policy),
            volume: bytes.map(|bytes| workload::claim(metadata(&name), settings, bytes)),
            pod: Pod { metadata: metadata(&pod_name), spec: Some(spec), ..Pod::default() },
        })
    }
}

/// The name of the pod of a launch, and of its secret.
pub(crate) fn pod_name(id: &LaunchId) -> String {
    let (pipeline, instance) = id.place.split_once(':').unwrap_or((&id.place, ""));
    format!("{}--a{}", names::of_component(pipeline, instance), id.attempt)
}

/// What pods of a place are chosen by.
pub(crate) fn pods(pipeline: &str, instance: &str) -> BTreeMap<String, String> {
    let labels = [(names::PIPELINE, pipeline), (names::INSTANCE, instance)];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The launch that an object is of; `None` for one that is not ours.
pub(crate) fn launch(metadata: &ObjectMeta) -> Option<LaunchId> {
    let attempt = metadata.labels.as_ref()?.get(names::ATTEMPT)?.parse().ok()?;
    Some(LaunchId { place: metadata.annotations.as_ref()?.get(PLACE)?.clone(), attempt })
}

fn metadata(settings: &Settings, launch: &Launch, name: &str) -> ObjectMeta {
    let assignment = &launch.assignment;
    let mut labels = names::labels(&assignment.pipeline);
    labels.extend(names::selector(&assignment.pipeline, &assignment.definition.id));
    labels.extend(pods(&assignment.pipeline, &assignment.instance));
    // What stays for the next launch is of no launch.
    if name == pod_name(&launch.id) {
        labels.insert(names::ATTEMPT.to_owned(), launch.id.attempt.to_string());
    }
    let place = (PLACE.to_owned(), launch.id.place.clone());
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(settings.namespace.clone()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([place])),
        ..ObjectMeta::default()
    }
}

/// The assignment as it is true in the pod.
fn placed(assignment: &Assignment, definition: Component, host: String) -> Assignment {
    let ports = Ports::of(&definition);
    Assignment {
        listen: format!("0.0.0.0:{}", ports.flight),
        advertise_host: Some(host),
        health_listen: format!("0.0.0.0:{}", ports.health),
        state_dir: PathBuf::from(STATE),
        definition,
        ..assignment.clone()
    }
}

/// The component without what comes resolved, with the launch: all of its environment but what
/// the cluster has itself.
fn by_cluster(component: &Component) -> Component {
    let mut component = component.clone();
    component
        .environment
        .retain(|_, text| matches!(text, Text::Reference(Reference::KubernetesSecret(_))));
    component
}

/// Probes of what speaks TLS.
fn ask_securely(spec: &mut PodSpec) {
    for container in &mut spec.containers {
        let probes = [
            &mut container.startup_probe,
            &mut container.readiness_probe,
            &mut container.liveness_probe,
        ];
        for get in probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_mut()) {
            get.scheme = Some("HTTPS".to_owned());
        }
    }
}

/// Certificates of this machine, as files of the pod: they are beside the assignment.
fn secure(tls: &TlsAssignment) -> Result<(TlsAssignment, Vec<(String, Value)>), RenderError> {
    let mut files = Vec::new();
    let mut put = |path: &Path, key: &str| {
        let text = std::fs::read_to_string(path).map_err(|error| RenderError::Write {
            what: path.display().to_string(),
            why: error.to_string(),
        })?;
        files.push((key.to_owned(), Value::new(text)));
        Ok(PathBuf::from(format!("{ASSIGNMENTS}/{key}")))
    };
    let told = TlsAssignment {
        ca: put(&tls.ca, "ca.pem")?,
        certificate: put(&tls.certificate, "certificate.pem")?,
        key: put(&tls.key, "key.pem")?,
    };
    Ok((told, files))
}

fn environment(launch: &Launch, secret: &str) -> Vec<k8s_openapi::api::core::v1::EnvVar> {
    let variables = launch.environment.iter();
    variables.map(|(name, _)| from_secret(name, secret, &format!("environment.{name}"))).collect()
}

fn secret(
    metadata: ObjectMeta,
    launch: &Launch,
    found: &[(String, Value)],
    told: &Assignment,
) -> Result<Secret, RenderError> {
    let text = serde_json::to_string_pretty(told).map_err(|error| RenderError::Write {
        what: format!("the assignment of {}", told.place),
        why: error.to_string(),
    })?;
    let variables = launch.environment.iter();
    let variables =
        variables.map(|(name, value)| (format!("environment.{name}"), value.expose().to_owned()));
    let found = found.iter().map(|(key, value)| (key.clone(), value.expose().to_owned()));
    let data = variables.chain(found).chain([(ASSIGNMENT.to_owned(), text)]).collect();
    Ok(Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        string_data: Some(data),
        ..Secret::default()
    })
}
