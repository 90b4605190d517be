//! What the engine is asked for to start an instance.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Mount, MountType,
    NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use serde::Serialize;
use sheaf_dataflow::Assignment;
use sheaf_flight::Secret;
use sheaf_pipeline::spec::{Component, Reference};

use super::names;
use crate::ports::Ports;
use crate::{DriverError, Launch, references};

/// What outlives a container: relative paths of files are taken from here.
const DATA: &str = "/var/lib/sheaf";
/// Where the assignment is.
const ASSIGNMENT: &str = "run/sheaf/assignment.json";
/// Where the secrets are that a configuration refers to.
const REFERENCES: &str = "run/sheaf/references";

/// What the engine is asked for to start an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Request {
    /// The name of the container.
    pub name: String,
    /// The container.
    pub container: ContainerCreateBody,
    /// What it finds as files: paths from the root, without a slash in front, and contents.
    /// They are secret, and no part of what is printed.
    #[serde(skip)]
    pub files: Vec<(String, Secret)>,
}

/// The request for a launch. Pure but for `look_up`, which is asked for what the configuration
/// of the component refers to.
///
/// The container gets the address `address` in the network of its pipeline, or one that the
/// engine chooses, and speaks to the control plane at `control`.
///
/// # Errors
/// For a component without an image, and for a reference that cannot be looked up.
pub fn request(
    launch: &Launch,
    component_image: &str,
    address: Option<Ipv4Addr>,
    control: &str,
    look_up: &dyn Fn(&Reference) -> Result<Secret, String>,
) -> Result<Request, DriverError> {
    let refused =
        |why: String| DriverError { what: format!("cannot start {}", launch.id.place), why };
    let component = &launch.assignment.definition;
    let image = image(component, component_image).map_err(refused)?;
    let mut files = Vec::new();
    let config = references::exchanged(component, |reference| {
        let path = format!("{REFERENCES}/{}", files.len());
        files.push((path.clone(), look_up(reference)?));
        Ok(Reference::File(format!("/{path}")))
    });
    let config = config.map_err(refused)?;
    let assignment = Assignment {
        definition: Component { config, ..component.clone() },
        ..placed(&launch.assignment, address, control)
    };
    let text = serde_json::to_string(&assignment).map_err(|error| refused(error.to_string()))?;
    files.push((ASSIGNMENT.to_owned(), Secret::new(text)));
    let container = ContainerCreateBody {
        image: Some(image),
        hostname: Some(launch.assignment.instance.replace('.', "-")),
        env: Some(environment(launch)),
        working_dir: component.kind.is_some().then(|| DATA.to_owned()),
        labels: Some(labels(launch)),
        stop_timeout: i64::try_from(component.drain.0.as_secs()).ok(),
        host_config: Some(host(launch)),
        networking_config: Some(networking(launch, address)),
        ..ContainerCreateBody::default()
    };
    Ok(Request { name: names::container(&launch.id), container, files })
}

fn image(component: &Component, built_in: &str) -> Result<String, String> {
    match (&component.image, &component.kind) {
        (Some(image), _) => Ok(image.clone()),
        (None, Some(_)) => Ok(built_in.to_owned()),
        (None, None) => Err(format!(
            "component `{}` has no image: in a container it needs `image`, since `command` is \
             for processes",
            component.id
        )),
    }
}

/// The assignment as it is true in the container.
fn placed(assignment: &Assignment, address: Option<Ipv4Addr>, control: &str) -> Assignment {
    let ports = Ports::of(&assignment.definition);
    let own = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Assignment {
        listen: format!("{own}:{}", ports.flight),
        advertise_host: address.map(|address| address.to_string()),
        health_listen: format!("{own}:{}", ports.health),
        control: control.to_owned(),
        state_dir: PathBuf::from(DATA).join("state"),
        ..assignment.clone()
    }
}

fn environment(launch: &Launch) -> Vec<String> {
    let resolved = launch.environment.iter();
    let mut variables: Vec<String> =
        resolved.map(|(name, value)| format!("{name}={}", value.expose())).collect();
    variables.push(format!("SHEAF_ASSIGNMENT=/{ASSIGNMENT}"));
    variables
}

fn labels(launch: &Launch) -> HashMap<String, String> {
    let attempt = launch.id.attempt.to_string();
    let labels = [
        (names::PIPELINE, names::pipeline(&launch.id.place)),
        (names::PLACE, launch.id.place.as_str()),
        (names::ATTEMPT, attempt.as_str()),
        (names::CONTROL, launch.assignment.control.as_str()),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn host(launch: &Launch) -> HostConfig {
    let component = &launch.assignment.definition;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HostConfig {
        memory: component.resources.memory.map(|memory| whole(memory.0)),
        // No swap beside it: a component that is over its memory ends, and does not crawl.
        memory_swap: component.resources.memory.map(|memory| whole(memory.0)),
        nano_cpus: component.resources.cpu.map(|cpu| i64::from(cpu.millicores) * 1_000_000),
        mounts: Some(vec![Mount {
            typ: Some(MountType::VOLUME),
            source: Some(names::volume(&launch.id.place)),
            target: Some(DATA.to_owned()),
            ..Mount::default()
        }]),
        network_mode: Some(names::network(names::pipeline(&launch.id.place))),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    }
}

fn networking(launch: &Launch, address: Option<Ipv4Addr>) -> NetworkingConfig {
    let endpoint = EndpointSettings {
        ipam_config: address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let network = names::network(names::pipeline(&launch.id.place));
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network, endpoint)])) }
}
