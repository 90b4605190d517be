//! The driver.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Error, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_retry::SharedClock;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::error::{code, refused};
use super::launched::{self, Launched, pod_name, pods};
use super::names;
use super::pod::seconds;
use super::secrets::Wanted;
use super::settings::Settings;
use super::watch::{Watch, gone, look};
use crate::ends::Ends;
use crate::lookup::LookUp;
use crate::{Driver, DriverError, Ended, Launch, LaunchId};

/// Who the fields of our objects belong to.
const MANAGER: &str = "sheafctl";
/// How often it is looked whether a pod is gone.
const LOOK: Duration = Duration::from_millis(200);
/// How long a node may take to end a pod beyond its drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs instances as pods of a cluster, one for each launch.
///
/// The control plane has to be in the cluster, or to reach its pods and services otherwise.
pub struct KubernetesDriver {
    client: Client,
    settings: Settings,
    look_up: LookUp,
    clock: SharedClock,
    ends: Arc<Ends>,
    watch: JoinHandle<()>,
}

impl Debug for KubernetesDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesDriver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for KubernetesDriver {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl KubernetesDriver {
    /// With a cluster, which is asked once whether it lets us in. `variables` are those that
    /// references of files may name.
    ///
    /// # Errors
    /// Where there is no such cluster or it refuses, and for settings that no cluster takes.
    pub async fn connect(
        settings: Settings,
        cluster: &Cluster,
        variables: BTreeMap<String, String>,
        clock: SharedClock,
    ) -> Result<Self, DriverError> {
        let client = cluster.client().await?;
        let namespace = settings.namespace.clone();
        let driver = Self::new(client, settings, variables, clock)?;
        // One question now, so that whoever asks for a run is told at once what is wrong.
        let what = "cannot use the cluster";
        let list = ListParams::default().labels(names::ATTEMPT).limit(1);
        let asked = driver.api::<Pod>().list(&list).await;
        asked.map_err(|error| refused(what, &namespace, &error))?;
        Ok(driver)
    }

    /// With a client of a cluster, which is not asked yet. Begins to listen to its pods.
    ///
    /// # Errors
    /// For settings that no cluster takes.
    pub fn new(
        client: Client,
        settings: Settings,
        variables: BTreeMap<String, String>,
        clock: SharedClock,
    ) -> Result<Self, DriverError> {
        settings.check().map_err(|error| DriverError {
            what: "cannot use the cluster".to_owned(),
            why: error.to_string(),
        })?;
        let ends = Arc::new(Ends::default());
        let watch = Watch {
            pods: Api::namespaced(client.clone(), &settings.namespace),
            ends: Arc::clone(&ends),
            clock: Arc::clone(&clock),
        };
        let watch = tokio::spawn(watch.run());
        let look_up = LookUp::new(variables, Arc::clone(&clock));
        Ok(KubernetesDriver { client, settings, look_up, clock, ends, watch })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    fn refused(&self, what: &str, error: &Error) -> DriverError {
        refused(what, &self.settings.namespace, error)
    }

    async fn remove_all<K>(&self, list: &ListParams) -> Result<(), Error>
    where
        K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        // Not as one collection: services cannot be deleted so by every server.
        let api = self.api::<K>();
        for object in api.list(list).await? {
            there(api.delete(&object.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }

    /// Server-side apply: only our fields are ours, and who else has them is not overruled.
    async fn apply<K>(&self, object: &K) -> Result<(), Error>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
        K::DynamicType: Default,
    {
        let (name, manager) = (object.name_any(), PatchParams::apply(MANAGER));
        self.api::<K>().patch(&name, &manager, &Patch::Apply(object)).await.map(drop)
    }

    /// Ends the pods of earlier launches of a place, which have its volume.
    async fn clear(&self, launch: &Launch) -> Result<(), DriverError> {
        let what = format!("cannot make way for {}", launch.id.place);
        let failed = |error: Error| self.refused(&what, &error);
        let assignment = &launch.assignment;
        let labels = pods(&assignment.pipeline, &assignment.instance);
        for pod in self.list(&labels).await.map_err(failed)? {
            if let Some(id) = launched::launch(&pod.metadata).filter(|id| *id != launch.id) {
                // A second, and not none: the node has to say that it is gone.
                self.end(&id, Duration::from_secs(1)).await?;
            }
        }
        Ok(())
    }

    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Pod>, Error> {
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        let labels: Vec<String> = labels.chain([names::ATTEMPT.to_owned()]).collect();
        let list = ListParams::default().labels(&labels.join(","));
        Ok(self.api::<Pod>().list(&list).await?.items)
    }

    /// Deletes the pod of a launch with time to drain, and waits until it is gone.
    async fn end(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        let what = format!("cannot stop {}", id.place);
        let failed = |error: Error| self.refused(&what, &error);
        let (pods, name) = (self.api::<Pod>(), pod_name(id));
        let grace = u32::try_from(seconds(drain).max(1)).unwrap_or(u32::MAX);
        there(pods.delete(&name, &DeleteParams::default().grace_period(grace)).await)
            .map_err(failed)?;
        let began = self.clock.elapsed();
        let limit = drain.saturating_add(PATIENCE);
        let mut last: Option<Pod> = None;
        while let Some(pod) = pods.get_opt(&name).await.map_err(failed)? {
            last = Some(pod);
            if self.clock.elapsed().saturating_sub(began) > limit {
                let why = format!(
                    "pod {name} is still there: its node may be lost; it may run there, so delete \
                     the pod with --force only where you know that it does not"
                );
                return Err(DriverError { what, why });
            }
            self.clock.sleep(LOOK).await;
        }
        match last {
            Some(pod) => gone(&self.ends, &pod),
            None => {
                let why = "its pod was deleted".to_owned();
                self.ends.tell(Ended { id: id.clone(), success: false, why });
            }
        }
        there(self.api::<Secret>().delete(&name, &DeleteParams::default()).await).map_err(failed)
    }
}

#[async_trait]
impl Driver for KubernetesDriver {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        let what = format!("cannot start {}", launch.id.place);
        let failed = |error: Error| self.refused(&what, &error);
        let mut found = Vec::new();
        for Wanted { key, reference, .. } in Launched::wanted(&launch) {
            let value = self.look_up.value(&reference).await;
            let value = value.map_err(|why| DriverError { what: what.clone(), why })?;
            found.push((key, value));
        }
        let objects = Launched::of(&self.settings, &launch, &found)
            .map_err(|error| DriverError { what: what.clone(), why: error.to_string() })?;
        self.clear(&launch).await?;
        self.apply(&objects.secret).await.map_err(failed)?;
        self.apply(&objects.service).await.map_err(failed)?;
        self.apply(&objects.policy).await.map_err(failed)?;
        if let Some(volume) = &objects.volume {
            self.apply(volume).await.map_err(failed)?;
        }
        self.apply(&objects.pod).await.map_err(failed)?;
        // In this order: before, a list that lacks the pod would be taken for its end. What
        // happened in between is looked up.
        self.ends.watch(launch.id.clone());
        match self.api::<Pod>().get_opt(&pod_name(&launch.id)).await.map_err(failed)? {
            Some(pod) => look(&self.ends, &pod),
            None => gone(&self.ends, &objects.pod),
        }
        Ok(())
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        self.end(id, drain).await
    }

    async fn ended(&self) -> Ended {
        self.ends.next().await
    }

    /// Pods, also those that still run, secrets, services, policies, and with `state` the
    /// volumes. Only what launches brought: nothing of what was rendered and applied.
    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        let what = format!("cannot remove what is left of {pipeline}");
        let failed = |error: Error| self.refused(&what, &error);
        let label = format!("{}={pipeline},{}", names::PIPELINE, names::INSTANCE);
        let list = ListParams::default().labels(&label);
        self.remove_all::<Pod>(&list).await.map_err(failed)?;
        self.remove_all::<Secret>(&list).await.map_err(failed)?;
        self.remove_all::<Service>(&list).await.map_err(failed)?;
        self.remove_all::<NetworkPolicy>(&list).await.map_err(failed)?;
        if state {
            self.remove_all::<PersistentVolumeClaim>(&list).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        let what = format!("cannot see what runs of {pipeline}");
        let failed = |error: Error| self.refused(&what, &error);
        let labels = BTreeMap::from([(names::PIPELINE.to_owned(), pipeline.to_owned())]);
        let mut running = Vec::new();
        for pod in self.list(&labels).await.map_err(failed)? {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let over = matches!(phase, Some("Succeeded" | "Failed"));
            if let Some(id) = launched::launch(&pod.metadata).filter(|_| !over) {
                self.ends.watch(id.clone());
                running.push(id);
            }
        }
        running.sort();
        // One of them may have ended before it was watched.
        let now = self.list(&labels).await.map_err(failed)?;
        for pod in &now {
            look(&self.ends, pod);
        }
        for id in &running {
            if !now.iter().any(|pod| launched::launch(&pod.metadata).as_ref() == Some(id)) {
                let why = "its pod was deleted".to_owned();
                self.ends.tell(Ended { id: id.clone(), success: false, why });
            }
        }
        Ok(running)
    }
}

/// It is as good where it was not there.
fn there<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if code(&error) == Some(404) => Ok(()),
        other => other.map(drop),
    }
}
