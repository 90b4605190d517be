//! What the engine is asked for to start an instance.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Mount, MountType,
    NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use serde::Serialize;
use sheaf_dataflow::{Assignment, DurableAssignment, TlsAssignment};
use sheaf_flight::Secret;
use sheaf_pipeline::spec::{Component, Reference};

use super::names;
use crate::ports::Ports;
use crate::{DriverError, Launch, RUN, references};

/// What outlives a container: relative paths of files are taken from here.
const DATA: &str = "/var/lib/sheaf";
/// What a component keeps.
const STATE: &str = "/var/lib/sheaf/state";
/// The folder of this machine that components work in.
const WORK: &str = "/work";
/// Where the assignment is.
const ASSIGNMENT: &str = "run/sheaf/assignment.json";
/// Where the secrets are that a configuration refers to.
const REFERENCES: &str = "run/sheaf/references";
/// Where its certificates are.
const TLS: &str = "run/sheaf/tls";

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

/// What a launch finds around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The image of built-in components.
    pub component_image: String,
    /// Its address in the network of its pipeline; without it the engine chooses one.
    pub address: Option<Ipv4Addr>,
    /// Whose it is.
    pub owner: String,
    /// The control plane, as it is reached from there.
    pub control: String,
    /// The store of durable edges, as it is reached from there.
    pub durable: Option<DurableAssignment>,
    /// The folder of this machine that built-in components work in, and as whom.
    pub folder: Option<(PathBuf, User)>,
}

/// A user by numbers: of files, and of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub id: u32,
    /// Its group.
    pub group: u32,
}

impl Around {
    /// Where the component works on this machine, if it does.
    fn folder_of(&self, component: &Component) -> Option<&(PathBuf, User)> {
        self.folder.as_ref().filter(|_| component.kind.is_some())
    }
}

/// The request for a launch. Pure but for `look_up`, which is asked for what the configuration
/// of the component refers to, and for its certificates, which are read.
///
/// # Errors
/// For a component without an image, and for a reference or a certificate that cannot be had.
pub fn request(
    launch: &Launch,
    around: &Around,
    look_up: &mut dyn FnMut(&Reference) -> Result<Secret, String>,
) -> Result<Request, DriverError> {
    let refused =
        |why: String| DriverError { what: format!("cannot start {}", launch.id.place), why };
    let component = &launch.assignment.definition;
    let image = image(component, &around.component_image).map_err(refused)?;
    let mut files = Vec::new();
    let config = references::exchanged(component, |reference| {
        let path = format!("{REFERENCES}/{}", files.len());
        files.push((path.clone(), look_up(reference)?));
        Ok(Reference::File(format!("/{path}")))
    });
    let config = config.map_err(refused)?;
    let tls = launch.assignment.tls.as_ref();
    let tls = tls.map(|tls| secure(tls, &mut files)).transpose().map_err(refused)?;
    let assignment = Assignment {
        definition: Component { config, ..component.clone() },
        tls,
        ..placed(&launch.assignment, around)
    };
    let text = serde_json::to_string(&assignment).map_err(|error| refused(error.to_string()))?;
    files.push((ASSIGNMENT.to_owned(), Secret::new(text)));
    let folder = around.folder_of(component);
    let is_built_in = component.kind.is_some();
    let container = ContainerCreateBody {
        image: Some(image),
        // Images of one's own say themselves what they run.
        entrypoint: is_built_in.then(|| RUN.map(str::to_owned).to_vec()),
        user: folder.map(|(_, user)| format!("{}:{}", user.id, user.group)),
        hostname: Some(launch.assignment.instance.replace('.', "-")),
        env: Some(environment(launch)),
        working_dir: is_built_in.then(|| folder.map_or(DATA, |_| WORK).to_owned()),
        labels: Some(labels(launch, &around.owner)),
        stop_timeout: i64::try_from(component.drain.0.as_secs()).ok(),
        host_config: Some(host(launch, folder.map(|(path, _)| path.as_path()))),
        networking_config: Some(networking(launch, around.address)),
        ..ContainerCreateBody::default()
    };
    Ok(Request { name: names::container(&launch.id), container, files })
}

/// Certificates of this machine, as files of the container.
fn secure(tls: &TlsAssignment, files: &mut Vec<(String, Secret)>) -> Result<TlsAssignment, String> {
    let mut put = |path: &Path, name: &str| {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let inside = format!("{TLS}/{name}");
        files.push((inside.clone(), Secret::new(text)));
        Ok::<_, String>(PathBuf::from(format!("/{inside}")))
    };
    Ok(TlsAssignment {
        ca: put(&tls.ca, "ca.pem")?,
        certificate: put(&tls.certificate, "certificate.pem")?,
        key: put(&tls.key, "key.pem")?,
    })
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
fn placed(assignment: &Assignment, around: &Around) -> Assignment {
    let ports = Ports::of(&assignment.definition);
    let address = around.address;
    let own = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Assignment {
        listen: format!("{own}:{}", ports.flight),
        advertise_host: address.map(|address| address.to_string()),
        health_listen: format!("{own}:{}", ports.health),
        control: around.control.clone(),
        durable: around.durable.clone(),
        state_dir: PathBuf::from(STATE),
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

fn labels(launch: &Launch, owner: &str) -> HashMap<String, String> {
    let attempt = launch.id.attempt.to_string();
    let labels = [
        (names::PIPELINE, names::pipeline(&launch.id.place)),
        (names::PLACE, launch.id.place.as_str()),
        (names::ATTEMPT, attempt.as_str()),
        (names::CONTROL, launch.assignment.control.as_str()),
        (names::OWNER, owner),
    ];
    let durable = launch.assignment.durable.as_ref();
    let store = durable.map(|durable| (names::STORE, durable.store.as_str()));
    labels
        .into_iter()
        .chain(store)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn host(launch: &Launch, folder: Option<&Path>) -> HostConfig {
    let component = &launch.assignment.definition;
    let mount = |typ, source: String, target: &str| Mount {
        typ: Some(typ),
        source: Some(source),
        target: Some(target.to_owned()),
        ..Mount::default()
    };
    let mounts = match folder {
        None => vec![mount(MountType::VOLUME, names::volume(&launch.id.place), DATA)],
        Some(folder) => {
            let here = |path: &Path| path.display().to_string();
            let state = here(&launch.assignment.state_dir);
            vec![mount(MountType::BIND, here(folder), WORK), mount(MountType::BIND, state, STATE)]
        }
    };
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HostConfig {
        memory: component.resources.memory.map(|memory| whole(memory.0)),
        // No swap beside it: a component that is over its memory ends, and does not crawl.
        memory_swap: component.resources.memory.map(|memory| whole(memory.0)),
        nano_cpus: component.resources.cpu.map(|cpu| i64::from(cpu.millicores) * 1_000_000),
        mounts: Some(mounts),
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
