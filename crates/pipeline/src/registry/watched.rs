//! How the health of each component is told: its place may say so.

use std::sync::Arc;
use std::time::Duration;

use super::model::Component;
use super::pipeline::PlaceHealth;
use super::{Filter, Registry, Status};

/// A part of the shortest time that somebody may be silent: silence is noticed late by that
/// much at most.
const PART: u32 = 6;
/// Nobody is looked at more often.
const SHORTEST: Duration = Duration::from_millis(10);

/// How often to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Who was silent.
    pub check_every: Duration,
    /// At health endpoints.
    pub poll_every: Duration,
}

/// A component that is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// As it is.
    pub component: Arc<Component>,
    /// How often.
    pub every: Duration,
    /// The path that is asked.
    pub path: String,
}

impl Registry {
    fn health_of(&self, id: &str) -> Option<&PlaceHealth> {
        let (pipeline, index) = self.places.get(id)?;
        let place = self.pipelines.get(pipeline)?.plan.places.get(*index)?;
        Some(&place.health)
    }

    /// How often this component is told to beat.
    pub fn beat_every(&self, id: &str) -> Duration {
        self.health_of(id).and_then(|health| health.every).unwrap_or(self.timing.beat_every)
    }

    /// How long this component may be silent.
    pub fn unhealthy_after(&self, id: &str) -> Duration {
        let said = self.health_of(id).and_then(|health| health.unhealthy_after);
        said.unwrap_or(self.timing.unhealthy_after)
    }

    /// The path of its health endpoint.
    pub(super) fn path_of(&self, id: &str) -> &str {
        let path = self.health_of(id).map_or("", |health| health.path.as_str());
        if path.is_empty() { crate::health::PATH } else { path }
    }

    /// How often to look, so that everybody is looked at often enough.
    pub fn pace(&self) -> Pace {
        let places = self.pipelines.values().filter(|pipeline| !pipeline.state.is_over());
        let healths = places.flat_map(|pipeline| &pipeline.plan.places).map(|place| &place.health);
        let mut pace =
            Pace { check_every: self.timing.check_every, poll_every: self.timing.poll_every };
        for health in healths {
            let silence = health.unhealthy_after.map_or(Duration::MAX, |after| after / PART);
            pace.check_every = pace.check_every.min(silence.max(SHORTEST));
            let every = health.every.unwrap_or(Duration::MAX);
            pace.poll_every = pace.poll_every.min(every.max(SHORTEST));
        }
        pace
    }

    /// Everybody whose health endpoint is looked at.
    pub fn watched(&self) -> Vec<Watched> {
        let statuses = vec![Status::Healthy, Status::Unhealthy];
        let filter = Filter { statuses, ..Filter::default() };
        let all = self.select(&filter).filter(|found| !found.health_endpoint.is_empty());
        all.map(|component| {
            let said = self.health_of(&component.id).and_then(|health| health.every);
            let every = said.unwrap_or(self.timing.poll_every);
            let path = self.path_of(&component.id).to_owned();
            Watched { component: Arc::clone(component), every, path }
        })
        .collect()
    }
}
