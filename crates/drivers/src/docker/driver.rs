//! The driver.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
    StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use rustix::process::{getegid, geteuid};
use sheaf_dataflow::DurableAssignment;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::archive::{self, Owner};
use super::disturb::disturb;
use super::error::{has_status, is_missing, refused};
use super::gate::{Gate, on_loopback};
use super::network::Network;
use super::prints::Prints;
use super::request::{Around, Request, User, request};
use super::settings::Settings;
use super::watch::{Watch, list};
use super::{logs, names};
use crate::disturbed::Disturbed;
use crate::ends::Ends;
use crate::lookup::LookUp;
use crate::{Disturbance, Driver, DriverError, Ended, Launch, LaunchId, LogLine, references};

/// How often it is looked whether containers are gone.
const LOOK: Duration = Duration::from_millis(100);
/// How long the engine may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// By the gateway of a network, and the port that they lead to.
type Gates = HashMap<(Ipv4Addr, u16), Gate>;

/// Runs instances as containers of a Docker engine.
pub struct DockerDriver {
    engine: Docker,
    settings: Settings,
    look_up: LookUp,
    prints: Prints,
    ends: Arc<Ends>,
    watch: JoinHandle<()>,
    /// One start at a time: an address is free until the container that gets it is made.
    starts: Mutex<Gates>,
    disturbed: Disturbed,
}

impl std::fmt::Debug for DockerDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerDriver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for DockerDriver {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl DockerDriver {
    /// Connects to the engine, and listens to what ends in it.
    ///
    /// # Errors
    /// Where no engine answers at the address, or the address is of another form.
    pub async fn connect(settings: Settings) -> Result<Self, DriverError> {
        let what = || format!("cannot use the Docker engine at {}", settings.engine);
        let seconds = TIMEOUT.as_secs();
        let engine = match settings.engine.as_str() {
            address if address.starts_with("unix://") => {
                Docker::connect_with_unix(address, seconds, API_DEFAULT_VERSION)
            }
            address if address.starts_with("http://") || address.starts_with("tcp://") => {
                Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION)
            }
            _ => {
                let why = "its address is to be unix:///PATH, tcp://HOST:PORT or http://HOST:PORT"
                    .to_owned();
                return Err(DriverError { what: what(), why });
            }
        };
        let engine = engine.map_err(|error| refused(what(), &error))?;
        let engine = engine.negotiate_version().await.map_err(|error| refused(what(), &error))?;
        let ends = Arc::new(Ends::default());
        let clock = Arc::clone(&settings.clock);
        let watch = Watch { engine: engine.clone(), ends: Arc::clone(&ends), clock };
        let watch = tokio::spawn(watch.run());
        let look_up = LookUp::new(settings.variables.clone(), Arc::clone(&settings.clock));
        let (prints, starts) = (Prints::default(), Mutex::default());
        let disturbed = Disturbed::default();
        Ok(DockerDriver { engine, settings, look_up, prints, ends, watch, starts, disturbed })
    }

    /// The last `lines` lines that an instance wrote, to standard output and error.
    ///
    /// # Errors
    /// Where there is no such container any more.
    pub async fn output(&self, id: &LaunchId, lines: u32) -> Result<String, DriverError> {
        let lines = lines.to_string();
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines).build();
        let parts: Result<Vec<_>, Error> =
            self.engine.logs(&names::container(id), Some(options)).try_collect().await;
        let parts = parts.map_err(|error| refused(format!("cannot read {}", id.place), &error))?;
        Ok(parts.iter().map(ToString::to_string).collect())
    }

    /// All of a pipeline, and whether they are ours.
    async fn of_all(&self, pipeline: &str) -> Result<Vec<(bool, ContainerSummary)>, Error> {
        let all = list(&self.engine, vec![label(names::PIPELINE, pipeline)]).await?;
        let is_ours = |container: &ContainerSummary| {
            let owner = container.labels.as_ref().and_then(|labels| labels.get(names::OWNER));
            owner.map_or("", String::as_str) == self.settings.owner
        };
        Ok(all.into_iter().map(|container| (is_ours(&container), container)).collect())
    }

    /// Ours of a pipeline.
    async fn containers(&self, pipeline: &str) -> Result<Vec<ContainerSummary>, Error> {
        let all = self.of_all(pipeline).await?;
        Ok(all.into_iter().filter_map(|(is_ours, one)| is_ours.then_some(one)).collect())
    }

    /// Refuses a pipeline of which others have containers: names are the engine's.
    async fn check_owner(&self, pipeline: &str) -> Result<(), DriverError> {
        let what = || format!("cannot run {pipeline}");
        let all = self.of_all(pipeline).await.map_err(|error| refused(what(), &error))?;
        let Some((_, other)) = all.iter().find(|(is_ours, _)| !is_ours) else { return Ok(()) };
        let owner = other.labels.as_ref().and_then(|labels| labels.get(names::OWNER));
        let owner = owner.map_or("somebody else", String::as_str);
        let why = format!(
            "a pipeline of this name has containers on this engine, of {owner}: stop it there, \
             or remove them with docker rm, or use another name"
        );
        Err(DriverError { what: what(), why })
    }

    /// Removes a container, and tells its end where somebody waits for it.
    async fn discard(&self, container: &ContainerSummary) -> Result<(), Error> {
        let launch = container.labels.as_ref().and_then(names::launch);
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let id = container.id.as_deref().unwrap_or_default();
        if let Some(launch) = &launch
            && container.state != Some(ContainerSummaryStateEnum::RUNNING)
        {
            self.prints.finish(launch).await;
        }
        gone(self.engine.remove_container(id, Some(options)).await)?;
        if let Some(launch) = launch {
            self.tell(&launch).await;
        }
        Ok(())
    }

    async fn tell(&self, id: &LaunchId) {
        if self.ends.is_watched(id) {
            let (engine, ends) = (self.engine.clone(), Arc::clone(&self.ends));
            let clock = Arc::clone(&self.settings.clock);
            Watch { engine, ends, clock }.end(id, None).await;
        }
    }

    /// The user of an image, where it is there.
    async fn owner(&self, image: &str) -> Result<Owner, DriverError> {
        let found = self.engine.inspect_image(image).await.map_err(|error| {
            if is_missing(&error) {
                let why = format!(
                    "the engine has no image {image}: `docker pull {image}` brings one from a \
                     registry, `cargo xtask image` makes that of built-in components"
                );
                return DriverError { what: "cannot use the image".to_owned(), why };
            }
            refused(format!("cannot use the image {image}"), &error)
        })?;
        let user = found.config.and_then(|config| config.user).unwrap_or_default();
        Ok(Owner::of_image(&user))
    }

    /// Makes way for a launch: earlier containers of its place have its volume, so they are
    /// gone before it is there. Gives the addresses that others have.
    async fn clear(&self, launch: &LaunchId) -> Result<HashSet<Ipv4Addr>, Error> {
        let mut taken = HashSet::new();
        for container in self.containers(names::pipeline(&launch.place)).await? {
            let id = container.labels.as_ref().and_then(names::launch);
            if id.is_some_and(|id| id.place == launch.place) {
                self.discard(&container).await?;
                continue;
            }
            // An ended container gives its address back, but may not start again then: no
            // container does here.
            let name = container.id.unwrap_or_default();
            let found = match self.engine.inspect_container(&name, None).await {
                Ok(found) => found,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            let networks = found.network_settings.and_then(|settings| settings.networks);
            let addresses = networks.into_iter().flatten().filter_map(|(_, endpoint)| {
                endpoint.ipam_config.and_then(|config| config.ipv4_address)
            });
            taken.extend(addresses.filter_map(|address| address.parse::<Ipv4Addr>().ok()));
        }
        Ok(taken)
    }

    /// Where containers of a network find what listens at an address, such as the control plane.
    async fn reached(
        &self,
        listens: &str,
        network: &Network,
        gates: &mut Gates,
    ) -> Result<String, DriverError> {
        let Some(local) = on_loopback(listens) else { return Ok(listens.to_owned()) };
        let address = SocketAddr::from((network.gateway, local.port()));
        let scheme = listens.split("://").next().unwrap_or("grpc");
        let key = (network.gateway, local.port());
        if let std::collections::hash_map::Entry::Vacant(entry) = gates.entry(key) {
            let gate = Gate::open(network.gateway, local).await.map_err(|error| DriverError {
                what: format!("cannot let containers through to {listens}"),
                why: format!("{address} cannot be listened on: {error}"),
            })?;
            entry.insert(gate);
        }
        Ok(format!("{scheme}://{address}"))
    }

    /// The store of durable edges, as containers of a network find it.
    async fn store(
        &self,
        durable: &DurableAssignment,
        network: &Network,
        gates: &mut Gates,
    ) -> Result<DurableAssignment, DriverError> {
        Ok(DurableAssignment {
            store: self.reached(&durable.store, network, gates).await?,
            coordinator: self.reached(&durable.coordinator, network, gates).await?,
            // What goes through a gate stays on this machine.
            insecure: durable.insecure || on_loopback(&durable.store).is_some(),
            ..durable.clone()
        })
    }

    /// The folder that a component works in, and as whom: as the user of this process, or where
    /// that is root as whoever owns the folder. What it keeps belongs to it.
    async fn folder(&self, launch: &Launch) -> Result<Option<(PathBuf, User)>, DriverError> {
        let Some(folder) = self.settings.folder.clone() else { return Ok(None) };
        if launch.assignment.definition.kind.is_none() {
            return Ok(None);
        }
        let state = launch.assignment.state_dir.clone();
        let shown = folder.display().to_string();
        let prepared = tokio::task::spawn_blocking(move || {
            let (id, group) = (geteuid().as_raw(), getegid().as_raw());
            let user = match id {
                0 => {
                    let found = std::fs::metadata(&folder)?;
                    User { id: found.uid(), group: found.gid() }
                }
                _ => User { id, group },
            };
            std::fs::create_dir_all(&state)?;
            let state_of = std::fs::metadata(&state)?;
            if (state_of.uid(), state_of.gid()) != (user.id, user.group) {
                chown(&state, Some(user.id), Some(user.group))?;
            }
            Ok::<_, std::io::Error>((folder, user))
        });
        let prepared = prepared.await.map_err(std::io::Error::other).and_then(|done| done);
        prepared.map(Some).map_err(|error| DriverError {
            what: format!("cannot start {}", launch.id.place),
            why: format!("it cannot work in {shown}: {error}"),
        })
    }

    /// The request, with what the configuration refers to looked up.
    async fn request(&self, launch: &Launch, around: &Around) -> Result<Request, DriverError> {
        let mut wanted = Vec::new();
        let definition = &launch.assignment.definition;
        let collected = references::exchanged(definition, |reference| {
            wanted.push(reference.clone());
            Ok::<_, std::convert::Infallible>(reference.clone())
        });
        let Ok(_) = collected;
        let mut found = std::collections::VecDeque::with_capacity(wanted.len());
        for reference in &wanted {
            let value = self.look_up.value(reference).await;
            found.push_back(value.map_err(|why| DriverError {
                what: format!("cannot start {}", launch.id.place),
                why,
            })?);
        }
        // They are met in the same order each time.
        request(launch, around, &mut |_| found.pop_front().ok_or_else(String::new))
    }

    async fn create(&self, request: &Request, owner: Owner, id: &LaunchId) -> Result<(), Error> {
        let volume = VolumeCreateRequest {
            name: Some(names::volume(&id.place)),
            labels: request.container.labels.clone(),
            ..VolumeCreateRequest::default()
        };
        self.engine.create_volume(volume).await?;
        let options = CreateContainerOptionsBuilder::new().name(&request.name).build();
        self.engine.create_container(Some(options), request.container.clone()).await?;
        let files = request.files.iter();
        let files = files.map(|(path, content)| (path.as_str(), content.expose().as_bytes()));
        let archive = archive::of(files, owner).map_err(|err| Error::IOError { err })?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(archive);
        self.engine.upload_to_container(&request.name, Some(options), body).await?;
        self.ends.watch(id.clone());
        self.engine.start_container(&request.name, None).await
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        let what = format!("cannot start {}", launch.id.place);
        let failed = |error| refused(what.clone(), &error);
        let component = &launch.assignment.definition;
        let image = component.image.as_ref().unwrap_or(&self.settings.component_image);
        let owner = self.owner(image).await?;
        let mut gates = self.starts.lock().await;
        let network = Network::ensure(&self.engine, names::pipeline(&launch.id.place)).await?;
        let taken = self.clear(&launch.id).await.map_err(failed)?;
        let address = network.free(&taken).ok_or_else(|| DriverError {
            what: what.clone(),
            why: "the network of the pipeline has no free address".to_owned(),
        })?;
        let control = self.reached(&launch.assignment.control, &network, &mut gates).await?;
        let durable = match &launch.assignment.durable {
            Some(durable) => Some(self.store(durable, &network, &mut gates).await?),
            None => None,
        };
        let folder = self.folder(&launch).await?;
        let around = Around {
            component_image: self.settings.component_image.clone(),
            address: Some(address),
            owner: self.settings.owner.clone(),
            control,
            durable,
            folder,
        };
        let request = self.request(&launch, &around).await?;
        let owner = request.container.user.as_deref().map_or(owner, Owner::of_image);
        if let Err(error) = self.create(&request, owner, &launch.id).await {
            self.ends.forget(&launch.id);
            let options = RemoveContainerOptionsBuilder::new().force(true).build();
            if let Err(error) = self.engine.remove_container(&request.name, Some(options)).await {
                tracing::debug!(%error, container = request.name, "nothing was left to remove");
            }
            return Err(failed(error));
        }
        if self.settings.prints && launch.assignment.definition.kind.as_deref() == Some("stdout") {
            self.prints.begin(&self.engine, &launch.id);
        }
        Ok(())
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        let failed = |error| refused(format!("cannot stop {}", id.place), &error);
        let name = names::container(id);
        if self.disturbed.end(id).await
            && let Err(error) = self.engine.unpause_container(&name).await
        {
            tracing::debug!(%error, container = name, "it does not stand still");
        }
        let more = u64::from(drain.subsec_nanos() > 0);
        let seconds = drain.as_secs().saturating_add(more);
        let wait = i32::try_from(seconds).unwrap_or(i32::MAX);
        // The engine answers when the container has ended.
        let engine = self.engine.clone().with_timeout(drain.saturating_add(TIMEOUT));
        let options = StopContainerOptionsBuilder::new().t(wait).build();
        match engine.stop_container(&name, Some(options)).await {
            Ok(()) => {}
            Err(error) if has_status(&error, 304) || is_missing(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        self.tell(id).await;
        self.prints.finish(id).await;
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        match gone(self.engine.remove_container(&name, Some(options)).await) {
            // The end of the run removes it already.
            Err(error) if has_status(&error, 409) => Ok(()),
            other => other.map_err(failed),
        }
    }

    async fn ended(&self) -> Ended {
        self.ends.next().await
    }

    async fn disturb(&self, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
        let by = (&self.disturbed, &self.settings.clock);
        disturb(&self.engine, by, id, how).await
    }

    /// Its containers, also those that still run, its network, and with `state` its volumes.
    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        let failed = |error| refused(format!("cannot remove what is left of {pipeline}"), &error);
        let began = self.settings.clock.elapsed();
        loop {
            let left = self.containers(pipeline).await.map_err(failed)?;
            if left.is_empty() {
                break;
            }
            for container in &left {
                match self.discard(container).await {
                    // A stop removes it too: who was first is waited for.
                    Err(error) if has_status(&error, 409) => {}
                    other => other.map_err(failed)?,
                }
            }
            if self.settings.clock.elapsed().saturating_sub(began) > TIMEOUT {
                let (what, count) =
                    (format!("cannot remove what is left of {pipeline}"), left.len());
                let why =
                    format!("{count} containers are still there after {}s", TIMEOUT.as_secs());
                return Err(DriverError { what, why });
            }
            self.settings.clock.sleep(LOOK).await;
        }
        if self.check_owner(pipeline).await.is_err() {
            // Network and volumes have the names of those of whoever runs it.
            return Ok(());
        }
        let network = names::network(pipeline);
        if let Ok(found) = self.engine.inspect_network(&network, None).await {
            let gateway = Network::of(&found).map(|network| network.gateway);
            self.starts.lock().await.retain(|(address, _), _| Some(*address) != gateway);
        }
        let filters = HashMap::from([("label", vec![label(names::PIPELINE, pipeline)])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let networks = self.engine.list_networks(Some(options)).await.map_err(failed)?;
        for name in networks.into_iter().filter_map(|network| network.name) {
            gone(self.engine.remove_network(&name).await).map_err(failed)?;
        }
        if state {
            let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
            let volumes = self.engine.list_volumes(Some(options)).await.map_err(failed)?;
            for volume in volumes.volumes.unwrap_or_default() {
                let none = None::<RemoveVolumeOptions>;
                gone(self.engine.remove_volume(&volume.name, none).await).map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        let failed = |error| refused(format!("cannot read {}", places.join(", ")), &error);
        let containers = list(&self.engine, vec![names::PLACE.to_owned()]).await.map_err(failed)?;
        let ids = logs::newest(&containers, places);
        logs::lines(&self.engine, ids, tail, follow).await.map_err(failed)
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        let failed = |error| refused(format!("cannot see what runs of {pipeline}"), &error);
        self.check_owner(pipeline).await?;
        let containers = self.containers(pipeline).await.map_err(failed)?;
        let runs = |container: &&ContainerSummary| {
            matches!(
                container.state,
                Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
            )
        };
        let mut running = Vec::new();
        for container in containers.iter().filter(runs) {
            let Some(labels) = &container.labels else { continue };
            let Some(id) = names::launch(labels) else { continue };
            // Containers that were started by a driver before this one need their gates again.
            for listens in [names::CONTROL, names::STORE].iter().filter_map(|one| labels.get(*one))
            {
                let mut gates = self.starts.lock().await;
                let network = Network::ensure(&self.engine, pipeline).await?;
                self.reached(listens, &network, &mut gates).await?;
            }
            self.ends.watch(id.clone());
            running.push(id);
        }
        running.sort();
        // One of them may have ended before it was watched.
        for container in self.containers(pipeline).await.map_err(failed)? {
            let id = container.labels.as_ref().and_then(names::launch);
            let over = container.state == Some(ContainerSummaryStateEnum::EXITED);
            if let Some(id) = id.filter(|id| over && running.contains(id)) {
                self.tell(&id).await;
            }
        }
        Ok(running)
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// It is as good where it was not there.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if is_missing(&error) => Ok(()),
        other => other,
    }
}
