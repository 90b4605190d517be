//! How the driver hears that pods end.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::runtime::watcher::{self, Event};
use sheaf_retry::SharedClock;

use super::error::{causes, code};
use super::{launched, names};
use crate::ends::{BREAKS, Ends, why};
use crate::{Ended, LaunchId};

/// Reasons for which a pod waits that no time mends.
const HOPELESS: [&str; 3] = ["InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"];
/// Letters of a message that is told with an end.
const MAX_MESSAGE: usize = 400;

/// Listens to the cluster for as long as its task runs. After each break, and where the server
/// has forgotten how far it was heard, it lists what is there.
pub(crate) struct Watch {
    pub(crate) pods: Api<Pod>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) clock: SharedClock,
}

impl Watch {
    /// Never ends by itself.
    pub(crate) async fn run(self) {
        let config = watcher::Config::default().labels(names::ATTEMPT);
        let begin = || Box::pin(watcher::watcher(self.pods.clone(), config.clone()));
        let mut events = begin();
        let (mut breaks, mut listing) = (0, Listing::default());
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    breaks = 0;
                    self.hear(event, &mut listing);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error = causes(&error), "the pods cannot be watched for now");
                    if is_forgotten(&error) {
                        events = begin();
                    }
                    let delay = BREAKS.delay_seeded(breaks, 0).unwrap_or_default();
                    breaks = breaks.saturating_add(1);
                    self.clock.sleep(delay).await;
                }
            }
        }
    }

    fn hear(&self, event: Event<Pod>, listing: &mut Listing) {
        match event {
            Event::Init => {
                // What is watched later has a pod that the list may lack.
                *listing = Listing { watched: self.ends.watched(), there: HashSet::new() };
            }
            Event::InitApply(pod) => {
                listing.there.extend(launched::launch(&pod.metadata));
                look(&self.ends, &pod);
            }
            Event::InitDone => {
                for id in std::mem::take(listing).gone() {
                    let why = "its pod was deleted".to_owned();
                    self.ends.tell(Ended { id, success: false, why });
                }
            }
            Event::Apply(pod) => look(&self.ends, &pod),
            Event::Delete(pod) => gone(&self.ends, &pod),
        }
    }
}

/// Whether the server has forgotten how far it was heard, and says so before it answers.
/// Where it says so within the answer the watcher lists again by itself; here it would ask for
/// the same for ever.
fn is_forgotten(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(error) = error else { return false };
    code(error) == Some(410)
}

/// What there is, while it is being listed.
#[derive(Default)]
struct Listing {
    watched: Vec<LaunchId>,
    there: HashSet<LaunchId>,
}

impl Listing {
    fn gone(self) -> impl Iterator<Item = LaunchId> {
        self.watched.into_iter().filter(move |id| !self.there.contains(id))
    }
}

/// Tells the end of a pod, if it has one.
pub(crate) fn look(ends: &Ends, pod: &Pod) {
    let Some(id) = launched::launch(&pod.metadata) else { return };
    if let Some((success, why)) = outcome(pod) {
        ends.tell(Ended { id, success, why });
    }
}

/// Tells the end of a pod that is no more. `pod` is how it was seen last.
pub(crate) fn gone(ends: &Ends, pod: &Pod) {
    let Some(id) = launched::launch(&pod.metadata) else { return };
    let (success, why) = outcome(pod).unwrap_or_else(|| (false, "its pod was deleted".to_owned()));
    ends.tell(Ended { id, success, why });
}

/// Whether a pod has ended, and how.
fn outcome(pod: &Pod) -> Option<(bool, String)> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Some(terminated(ended));
    }
    if let Some(waits) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waits.reason.as_deref().unwrap_or_default();
        if HOPELESS.contains(&reason) {
            let message = waits.message.as_deref().unwrap_or_default();
            return Some((false, format!("{reason}: {}", cut(message))));
        }
    }
    // The node has evicted or lost it: no container tells of that.
    let reason = status.reason.as_deref().unwrap_or("the pod failed");
    let message = status.message.as_deref().unwrap_or_default();
    match status.phase.as_deref() {
        Some("Succeeded") => Some((true, "exit status 0".to_owned())),
        Some("Failed") if message.is_empty() => Some((false, reason.to_owned())),
        Some("Failed") => Some((false, format!("{reason}: {}", cut(message)))),
        _ => None,
    }
}

fn terminated(ended: &ContainerStateTerminated) -> (bool, String) {
    let out_of_memory = ended.reason.as_deref() == Some("OOMKilled");
    let message = ended.message.as_deref().unwrap_or_default();
    why(ended.exit_code.into(), out_of_memory, &cut(message))
}

fn cut(message: &str) -> String {
    message.trim().chars().take(MAX_MESSAGE).collect()
}
