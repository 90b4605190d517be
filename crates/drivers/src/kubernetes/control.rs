//! The control plane of a pipeline in a cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, GRPCAction,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Service, ServiceAccount,
    ServicePort, ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sheaf_pipeline::plan::Plan;

use super::object::Object;
use super::pod::DATA;
use super::settings::{CONTROL_PORT, Settings};
use super::{names, network, workload};
use crate::Tokens;

const FILE: &str = "/etc/sheaf/pipeline";
const TOKENS: &str = "/run/sheaf/tokens";
/// Nobody in particular, as components have it.
const USER: i64 = 65_532;
/// What the registry keeps is small.
const STATE_BYTES: u64 = 1_000_000_000;

/// Builds the objects that the whole pipeline has once.
pub(crate) struct Control<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) plan: &'a Plan,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) tokens: &'a Tokens,
    /// The text of the pipeline's file.
    pub(crate) text: &'a str,
}

impl Control<'_> {
    /// All of them: what others need comes first.
    pub(crate) fn objects(&self) -> Vec<Object> {
        let account = |name| ServiceAccount {
            metadata: self.metadata(name),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        };
        let data = BTreeMap::from([("pipeline.yaml".to_owned(), self.text.to_owned())]);
        let file =
            ConfigMap { metadata: self.metadata("file"), data: Some(data), ..ConfigMap::default() };
        let data =
            BTreeMap::from([("tokens.json".to_owned(), self.tokens.to_json().expose().to_owned())]);
        let tokens = Secret {
            metadata: self.metadata("tokens"),
            type_: Some("Opaque".to_owned()),
            string_data: Some(data),
            ..Secret::default()
        };
        let volume = workload::claim(self.metadata("control"), self.settings, STATE_BYTES);
        let policy = network::of_control(self.plan);
        vec![
            account("components").into(),
            account("control").into(),
            file.into(),
            tokens.into(),
            volume.into(),
            self.service().into(),
            self.deployment().into(),
            network::policy(self.metadata("control"), policy).into(),
        ]
    }

    fn metadata(&self, what: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(names::of_pipeline(&self.plan.pipeline, what)),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(self.labels.clone()),
            ..ObjectMeta::default()
        }
    }

    fn service(&self) -> Service {
        Service {
            metadata: self.metadata("control"),
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".to_owned()),
                selector: Some(names::control_selector(&self.plan.pipeline)),
                ports: Some(vec![ServicePort {
                    name: Some("grpc".to_owned()),
                    port: CONTROL_PORT.into(),
                    target_port: Some(IntOrString::String("grpc".to_owned())),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    fn deployment(&self) -> Deployment {
        let selector = names::control_selector(&self.plan.pipeline);
        let mut labels = self.labels.clone();
        labels.extend(selector.clone());
        let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
        Deployment {
            metadata: self.metadata("control"),
            spec: Some(DeploymentSpec {
                replicas: Some(1),
                selector: LabelSelector {
                    match_labels: Some(selector),
                    ..LabelSelector::default()
                },
                // The registry is one file, which one process has open.
                strategy: Some(DeploymentStrategy {
                    type_: Some("Recreate".to_owned()),
                    ..DeploymentStrategy::default()
                }),
                template: PodTemplateSpec { metadata: Some(metadata), spec: Some(self.pod()) },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }

    fn pod(&self) -> PodSpec {
        let name = |what| names::of_pipeline(&self.plan.pipeline, what);
        let named = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
        let file = ConfigMapVolumeSource { name: name("file"), ..ConfigMapVolumeSource::default() };
        let tokens = SecretVolumeSource {
            secret_name: Some(name("tokens")),
            default_mode: Some(0o400),
            ..SecretVolumeSource::default()
        };
        let claim = PersistentVolumeClaimVolumeSource {
            claim_name: name("control"),
            ..PersistentVolumeClaimVolumeSource::default()
        };
        PodSpec {
            service_account_name: Some(name("control")),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                // Otherwise each mount would let the group read the token of the server, which
                // is refused then.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![self.container()],
            volumes: Some(vec![
                Volume { config_map: Some(file), ..named("file") },
                Volume { secret: Some(tokens), ..named("tokens") },
                Volume { persistent_volume_claim: Some(claim), ..named("data") },
            ]),
            ..PodSpec::default()
        }
    }

    fn container(&self) -> Container {
        let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        };
        let probe = |failures| Probe {
            grpc: Some(GRPCAction { port: CONTROL_PORT.into(), service: None }),
            period_seconds: Some(5),
            failure_threshold: Some(failures),
            ..Probe::default()
        };
        Container {
            name: "control-plane".to_owned(),
            image: Some(self.settings.control_image.clone()),
            command: Some(vec!["sheafctl".to_owned()]),
            args: Some(arguments(self.settings)),
            ports: Some(vec![ContainerPort {
                name: Some("grpc".to_owned()),
                container_port: CONTROL_PORT.into(),
                ..ContainerPort::default()
            }]),
            startup_probe: Some(probe(24)),
            readiness_probe: Some(probe(3)),
            liveness_probe: Some(probe(6)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(vec![
                mount("file", FILE, true),
                mount("tokens", TOKENS, true),
                mount("data", DATA, false),
            ]),
            ..Container::default()
        }
    }
}

/// What the control plane is started with.
fn arguments(settings: &Settings) -> Vec<String> {
    let store = settings.durable.as_ref().map(|own| format!("--durable-store={}", own.store));
    let always = [
        "server".to_owned(),
        format!("--control-addr=0.0.0.0:{CONTROL_PORT}"),
        // The policies of the network let in the components of the pipeline and nobody else.
        "--insecure".to_owned(),
        format!("--data-dir={DATA}"),
        format!("--state={DATA}/control.redb"),
        format!("--pipeline={FILE}/pipeline.yaml"),
        format!("--tokens={TOKENS}/tokens.json"),
    ];
    always.into_iter().chain(store).collect()
}
