//! The pod of a component.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretKeySelector, SecretVolumeSource,
    SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sheaf_pipeline::spec::{Component, Health, Resources, Text};

use super::names;
use super::secrets::{self, REFERENCES, Secrets};
use super::settings::{RenderError, Settings};
use crate::RUN;
use crate::ports::Ports;

/// What outlives a process: paths of files are taken from here.
pub(crate) const DATA: &str = "/var/lib/sheaf";
/// The state directory.
pub(crate) const STATE: &str = "/var/lib/sheaf/state";
/// Where assignments are.
pub(crate) const ASSIGNMENTS: &str = "/run/sheaf/assignment";
/// The container of the component.
pub(crate) const CONTAINER: &str = "component";
/// Nobody in particular; the image of built-in components needs no user of its own.
const USER: i64 = 65_532;

/// What a pod is made of.
pub(crate) struct Of<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) pipeline: &'a str,
    pub(crate) component: &'a Component,
    pub(crate) secrets: &'a Secrets,
    /// The secret with the assignments.
    pub(crate) assignments: &'a str,
    /// The path of the assignment, and the variables that are in it.
    pub(crate) assignment: (String, Vec<EnvVar>),
    /// The claim of the volume, where there is one of its own; `None` for one that the
    /// workload brings, or for a folder that goes with the pod.
    pub(crate) claim: Option<&'a str>,
    /// Whether the workload brings the volume.
    pub(crate) claimed: bool,
}

impl Of<'_> {
    /// The pod, as components of every kind of workload have it.
    pub(crate) fn spec(&self) -> Result<PodSpec, RenderError> {
        let own = self.component.kind.is_none();
        let security = PodSecurityContext {
            run_as_non_root: (!own).then_some(true),
            run_as_user: (!own).then_some(USER),
            run_as_group: (!own).then_some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        };
        Ok(PodSpec {
            service_account_name: Some(names::of_pipeline(self.pipeline, "components")),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(seconds(self.component.drain.0)),
            security_context: Some(security),
            containers: vec![self.container()?],
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        })
    }

    fn container(&self) -> Result<Container, RenderError> {
        let component = self.component;
        let own = component.kind.is_none();
        let image = match (&component.image, own) {
            (Some(image), _) => image,
            (None, false) => &self.settings.component_image,
            (None, true) => return Err(RenderError::NoImage { component: component.id.clone() }),
        };
        let ports = Ports::of(component);
        let port = |name: &str, port: u16| ContainerPort {
            name: Some(name.to_owned()),
            container_port: port.into(),
            ..ContainerPort::default()
        };
        Ok(Container {
            name: CONTAINER.to_owned(),
            image: Some(image.clone()),
            // Images of one's own say themselves what they run.
            command: (!own).then(|| RUN.map(str::to_owned).to_vec()),
            working_dir: (!own).then(|| DATA.to_owned()),
            env: Some(self.environment()),
            ports: Some(vec![port("flight", ports.flight), port("health", ports.health)]),
            resources: Some(resources(&component.resources)),
            startup_probe: Some(probe(&component.health, 2, 60)),
            readiness_probe: Some(beat_probe(&component.health)),
            liveness_probe: Some(beat_probe(&component.health)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: (!own).then_some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(self.mounts()),
            ..Container::default()
        })
    }

    fn environment(&self) -> Vec<EnvVar> {
        let (path, before) = &self.assignment;
        let mut variables = before.clone();
        variables.push(variable("SHEAF_ASSIGNMENT", path));
        variables.extend(self.component.environment.iter().map(|(name, text)| match text {
            // A dollar sign would begin the name of another variable.
            Text::Plain(text) => variable(name, &text.replace('$', "$$")),
            Text::Reference(reference) => {
                let secret = secrets::of_pipeline(self.pipeline);
                let entry = secrets::entry(&secret, reference);
                from_secret(name, &entry.name, &entry.key)
            }
        }));
        variables
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        };
        let mut mounts = vec![
            mount("assignment", ASSIGNMENTS, true),
            mount("data", DATA, false),
            mount("temporary", "/tmp", false),
        ];
        for (number, secret) in self.mounted().keys().enumerate() {
            let path = format!("{REFERENCES}/{secret}");
            mounts.push(mount(&format!("reference-{number}"), &path, true));
        }
        mounts
    }

    fn volumes(&self) -> Vec<Volume> {
        let named = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
        let secret = |secret: &str, items| SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o400),
            items,
            ..SecretVolumeSource::default()
        };
        let empty = || Some(EmptyDirVolumeSource::default());
        let mut volumes = vec![
            Volume { secret: Some(secret(self.assignments, None)), ..named("assignment") },
            Volume { empty_dir: empty(), ..named("temporary") },
        ];
        match self.claim {
            Some(claim) => volumes.push(Volume {
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.to_owned(),
                    ..PersistentVolumeClaimVolumeSource::default()
                }),
                ..named("data")
            }),
            None if self.claimed => {}
            None => volumes.push(Volume { empty_dir: empty(), ..named("data") }),
        }
        for (number, (name, keys)) in self.mounted().into_iter().enumerate() {
            let item = |key: &str| KeyToPath {
                key: key.to_owned(),
                path: key.to_owned(),
                ..KeyToPath::default()
            };
            let items = keys.into_iter().map(item).collect();
            let source = Some(secret(name, Some(items)));
            volumes.push(Volume { secret: source, ..named(&format!("reference-{number}")) });
        }
        volumes
    }

    /// Secrets that are mounted, and the keys of each.
    fn mounted(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut mounted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (secret, key) in &self.secrets.mounted {
            mounted.entry(secret).or_default().push(key);
        }
        mounted
    }
}

pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

pub(crate) fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let source = EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: secret.to_owned(),
            key: key.to_owned(),
            ..SecretKeySelector::default()
        }),
        ..EnvVarSource::default()
    };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// Asks as often as the component beats, and gives it as long.
fn beat_probe(health: &Health) -> Probe {
    let period = seconds(health.interval.0).max(1);
    let failures = (seconds(health.timeout.0) / period).saturating_add(1);
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    probe(health, small(period), small(failures))
}

fn probe(health: &Health, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(health.path.clone()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

/// Whole seconds, no fewer than it takes.
pub(crate) fn seconds(duration: std::time::Duration) -> i64 {
    let more = i64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).saturating_add(more)
}

/// What it may use is what it is given: a component that is squeezed is slow for reasons
/// that nobody sees.
fn resources(resources: &Resources) -> ResourceRequirements {
    let mut amounts = BTreeMap::new();
    if let Some(cpu) = resources.cpu {
        amounts.insert("cpu".to_owned(), Quantity(cpu.to_string()));
    }
    if let Some(memory) = resources.memory {
        amounts.insert("memory".to_owned(), Quantity(memory.0.to_string()));
    }
    let amounts = (!amounts.is_empty()).then_some(amounts);
    let limits = amounts.clone();
    ResourceRequirements { limits, requests: amounts, ..ResourceRequirements::default() }
}
