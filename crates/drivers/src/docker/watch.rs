//! How the driver hears that containers end.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerStateStatusEnum, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_retry::SharedClock;

use super::error::is_missing;
use super::names;
use crate::ends::{BREAKS, Ends, why};
use crate::{Ended, LaunchId};

/// Bytes of the last line that is told with an end.
const MAX_LINE: usize = 400;

/// Listens to the engine for as long as it is not dropped with its task. After each break it
/// asks what it has missed.
pub(super) struct Watch {
    pub(super) engine: Docker,
    pub(super) ends: Arc<Ends>,
    pub(super) clock: SharedClock,
}

impl Watch {
    /// Never ends by itself.
    pub(super) async fn run(self) {
        let mut breaks = 0;
        loop {
            match self.listen(&mut breaks).await {
                Ok(()) => tracing::debug!("the engine ended its events"),
                Err(error) => tracing::warn!(%error, "the engine's events are lost for now"),
            }
            let delay = BREAKS.delay_seeded(breaks, 0).unwrap_or_default();
            breaks = breaks.saturating_add(1);
            self.clock.sleep(delay).await;
        }
    }

    /// Until the stream of events ends or breaks.
    async fn listen(&self, breaks: &mut u32) -> Result<(), Error> {
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("event", vec!["die", "destroy"]),
            ("label", vec![names::PLACE]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = Box::pin(self.engine.events(Some(options)));
        // The engine begins to tell when it has the request, which the first look at the
        // stream sends: what ends from then on is told, and what ended before is looked up.
        let mut first = events.next();
        let missed = self.catch_up();
        tokio::pin!(missed);
        let mut caught_up = false;
        loop {
            tokio::select! {
                event = &mut first => {
                    let Some(event) = event else { return Ok(()) };
                    self.hear(&event?).await;
                    first = events.next();
                }
                done = &mut missed, if !caught_up => {
                    done?;
                    caught_up = true;
                    *breaks = 0;
                }
            }
        }
    }

    async fn hear(&self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let Some(attributes) = &actor.attributes else { return };
        let Some(id) = names::launch(attributes).filter(|id| self.ends.is_watched(id)) else {
            return;
        };
        let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
        self.end(&id, code).await;
    }

    /// Looks for launches that ended while nobody listened.
    async fn catch_up(&self) -> Result<(), Error> {
        // In this order: what is watched later has not ended before the list was made.
        let watched = self.ends.watched();
        if watched.is_empty() {
            return Ok(());
        }
        let mut there: HashMap<LaunchId, bool> = HashMap::new();
        for container in list(&self.engine, vec![names::PLACE.to_owned()]).await? {
            let state = container.state;
            let over = matches!(
                state,
                Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD)
            );
            if let Some(id) = container.labels.as_ref().and_then(names::launch) {
                there.insert(id, over);
            }
        }
        for id in watched {
            if there.get(&id).copied().unwrap_or(true) {
                self.end(&id, None).await;
            }
        }
        Ok(())
    }

    /// Tells the end of a launch, with what the engine knows of it. `code` is what it said of
    /// the end itself.
    pub(super) async fn end(&self, id: &LaunchId, code: Option<i64>) {
        let found = self.engine.inspect_container(&names::container(id), None).await;
        let state = match found {
            Ok(found) => found.state,
            Err(error) if is_missing(&error) => None,
            Err(error) => {
                tracing::warn!(%error, place = %id.place, "how it ended is not known");
                None
            }
        };
        let running = state.as_ref().and_then(|state| state.status).is_some_and(|status| {
            matches!(status, ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED)
        });
        if running {
            return;
        }
        let memory = state.as_ref().and_then(|state| state.oom_killed).unwrap_or_default();
        let code = state.as_ref().and_then(|state| state.exit_code).or(code);
        let (success, why) = match code {
            Some(code) => {
                let failed = code != 0 && state.is_some();
                let said = if failed { self.last_line(id).await } else { String::new() };
                why(code, memory, &said)
            }
            None => (false, "its container was removed".to_owned()),
        };
        self.ends.tell(Ended { id: id.clone(), success, why });
    }

    /// The last line that a container wrote to standard error.
    async fn last_line(&self, id: &LaunchId) -> String {
        let options = LogsOptionsBuilder::new().stderr(true).tail("20").build();
        let logs = self.engine.logs(&names::container(id), Some(options));
        let parts: Vec<_> = logs.take(64).try_collect().await.unwrap_or_default();
        let text: String = parts.iter().map(ToString::to_string).collect();
        text.trim().lines().last().unwrap_or_default().chars().take(MAX_LINE).collect()
    }
}

/// All containers with such labels, ended ones among them.
pub(super) async fn list(
    engine: &Docker,
    labels: Vec<String>,
) -> Result<Vec<bollard::models::ContainerSummary>, Error> {
    let filters = HashMap::from([("label", labels)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    engine.list_containers(Some(options)).await
}
