//! The objects of one component: what starts it, its service, its assignments.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSpec, PodTemplateSpec, Secret, Service, ServicePort, ServiceSpec,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sheaf_dataflow::{Assignment, DurableAssignment};
use sheaf_pipeline::plan::{Plan, PlannedComponent};
use sheaf_pipeline::spec::Component;

use super::object::Object;
use super::pod::{ASSIGNMENTS, Of, STATE};
use super::secrets::{self, Secrets, Wanted};
use super::settings::{CONTROL_PORT, RenderError, Settings};
use super::{names, network, state};
use crate::ports::Ports;
use crate::{Tokens, planned};

/// The label with the number of a pod in its stateful set.
const POD_INDEX: &str = "metadata.labels['apps.kubernetes.io/pod-index']";

/// Builds the objects of one component.
pub(crate) struct Workload<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) plan: &'a Plan,
    pub(crate) component: &'a PlannedComponent,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) tokens: &'a Tokens,
    /// [`Plan::graph`]
    pub(crate) graph: u64,
}

impl Workload<'_> {
    /// All of them, and what the cluster must be given for them.
    ///
    /// A component with one instance that keeps nothing is a deployment. All others are
    /// stateful sets: each instance has a place of its own, and only there pods have numbers.
    pub(crate) fn objects(&self) -> Result<(Vec<Object>, Vec<Wanted>), RenderError> {
        let secret = secrets::of_pipeline(&self.plan.pipeline);
        let (secrets, definition) = Secrets::of(&secret, &self.component.definition);
        let of = (self.component.role, &self.component.definition);
        let out = self.plan.readers_of(&self.component.id);
        let bytes = state::volume_bytes(self.settings, of, out);
        let numbered = bytes.is_some() || self.component.instances.len() > 1;
        let pod = Of {
            settings: self.settings,
            pipeline: &self.plan.pipeline,
            component: &self.component.definition,
            secrets: &secrets,
            assignments: &self.name(),
            assignment: assignment_path(numbered),
            claim: None,
            claimed: bytes.is_some(),
        }
        .spec()?;
        let mut objects = vec![
            self.assignments(&definition, numbered)?.into(),
            service(self.metadata(&self.name()), &self.component.definition, self.pods()).into(),
        ];
        objects.push(match numbered {
            false => self.deployment(pod).into(),
            true => self.stateful_set(pod, bytes).into(),
        });
        let policy = network::of_component(self.plan, self.component, self.store());
        objects.push(network::policy(self.metadata(&self.name()), policy).into());
        Ok((objects, secrets.wanted))
    }

    fn name(&self) -> String {
        names::of_component(&self.plan.pipeline, &self.component.id)
    }

    /// Where batches wait that it sends or reads.
    fn store(&self) -> Option<&DurableAssignment> {
        let id = &self.component.id;
        let mut edges = self.plan.senders_of(id).chain(self.plan.readers_of(id));
        self.settings.durable.as_ref().filter(|_| edges.any(|edge| edge.durable))
    }

    fn count(&self) -> i32 {
        i32::try_from(self.component.instances.len()).unwrap_or(i32::MAX)
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let mut labels = self.labels.clone();
        labels.insert(names::COMPONENT.to_owned(), self.component.id.clone());
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }

    /// One secret with the assignment of each instance: the tokens are in them.
    fn assignments(&self, definition: &Component, numbered: bool) -> Result<Secret, RenderError> {
        let mut data = BTreeMap::new();
        for index in self.component.instances.iter().map(|instance| instance.index) {
            let (name, namespace) = (self.name(), &self.settings.namespace);
            let host = match numbered {
                true => format!("{name}-{index}.{name}.{namespace}.svc"),
                false => format!("{name}.{namespace}.svc"),
            };
            let told = self.assignment(definition, index, host);
            let text = serde_json::to_string_pretty(&told).map_err(|error| RenderError::Write {
                what: format!("the assignment of {}", told.place),
                why: error.to_string(),
            })?;
            data.insert(format!("{index}.json"), text + "\n");
        }
        Ok(Secret {
            metadata: self.metadata(&self.name()),
            type_: Some("Opaque".to_owned()),
            string_data: Some(data),
            ..Secret::default()
        })
    }

    /// `definition` is that of the component, with what its references mean in the cluster.
    fn assignment(&self, definition: &Component, index: u32, host: String) -> Assignment {
        let ports = Ports::of(definition);
        let control = names::of_pipeline(&self.plan.pipeline, "control");
        let namespace = &self.settings.namespace;
        let told = planned::assignment(self.plan, self.component, index);
        Assignment {
            pass: self.settings.pass,
            graph: self.graph,
            definition: definition.clone(),
            listen: format!("0.0.0.0:{}", ports.flight),
            advertise_host: Some(host),
            health_listen: format!("0.0.0.0:{}", ports.health),
            control: format!("grpc://{control}.{namespace}.svc:{CONTROL_PORT}"),
            token: self.tokens.place(&told.place).to_owned(),
            data_token: self.tokens.data().to_owned(),
            state_dir: PathBuf::from(STATE),
            durable: self.store().cloned(),
            ..told
        }
    }

    fn template(&self, pod: PodSpec) -> PodTemplateSpec {
        let ObjectMeta { labels, .. } = self.metadata("");
        let hash = ("sheaf.dev/definition".to_owned(), self.component.hash.to_string());
        let pass = ("sheaf.dev/pass".to_owned(), self.settings.pass.to_string());
        let metadata = ObjectMeta {
            labels,
            // Another definition or pass starts its pods anew; nothing else in the template may
            // change.
            annotations: Some(BTreeMap::from([hash, pass])),
            ..ObjectMeta::default()
        };
        PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) }
    }

    fn pods(&self) -> BTreeMap<String, String> {
        names::selector(&self.plan.pipeline, &self.component.id)
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.pods()), ..LabelSelector::default() }
    }

    fn deployment(&self, pod: PodSpec) -> Deployment {
        Deployment {
            metadata: self.metadata(&self.name()),
            spec: Some(DeploymentSpec {
                replicas: Some(self.count()),
                selector: self.selector(),
                // A place has one holder: the old pod goes before the new one comes.
                strategy: Some(DeploymentStrategy {
                    type_: Some("Recreate".to_owned()),
                    ..DeploymentStrategy::default()
                }),
                template: self.template(pod),
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }

    fn stateful_set(&self, pod: PodSpec, bytes: Option<u64>) -> StatefulSet {
        let claims = bytes.map(|bytes| {
            let name = ObjectMeta { name: Some("data".to_owned()), ..ObjectMeta::default() };
            vec![claim(name, self.settings, bytes)]
        });
        StatefulSet {
            metadata: self.metadata(&self.name()),
            spec: Some(StatefulSetSpec {
                replicas: Some(self.count()),
                service_name: Some(self.name()),
                // Instances do not wait for each other.
                pod_management_policy: Some("Parallel".to_owned()),
                selector: self.selector(),
                template: self.template(pod),
                volume_claim_templates: claims,
                ..StatefulSetSpec::default()
            }),
            ..StatefulSet::default()
        }
    }
}

/// A claim of a volume that one pod at a time writes.
pub(crate) fn claim(
    metadata: ObjectMeta,
    settings: &Settings,
    bytes: u64,
) -> PersistentVolumeClaim {
    let storage = ("storage".to_owned(), Quantity(bytes.to_string()));
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: settings.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([storage])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// A service without an address of its own: a name for each pod, also before it is ready,
/// since who reads looks for who sends from the beginning.
pub(crate) fn service(
    metadata: ObjectMeta,
    component: &Component,
    selector: BTreeMap<String, String>,
) -> Service {
    let ports = Ports::of(component);
    let port = |name: &str, number: u16| ServicePort {
        name: Some(name.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
            ports: Some(vec![port("flight", ports.flight), port("health", ports.health)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The path of a pod's assignment, and the variables that are in it.
fn assignment_path(numbered: bool) -> (String, Vec<EnvVar>) {
    if !numbered {
        return (format!("{ASSIGNMENTS}/0.json"), Vec::new());
    }
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: POD_INDEX.to_owned(),
            ..ObjectFieldSelector::default()
        }),
        ..EnvVarSource::default()
    };
    let index = EnvVar {
        name: "SHEAF_INSTANCE_INDEX".to_owned(),
        value_from: Some(source),
        ..EnvVar::default()
    };
    (format!("{ASSIGNMENTS}/$(SHEAF_INSTANCE_INDEX).json"), vec![index])
}
