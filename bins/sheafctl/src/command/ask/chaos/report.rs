//! What chaos has come to.

mod before;
mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_drivers::Disturbance;
use sheaf_pipeline::registry::{Component, PipelineState};

use crate::stats::instance;
use before::{Before, is_up};

/// What was done, and what became of the pipeline.
pub(super) struct Report {
    pipeline: String,
    done: Vec<(Duration, String)>,
    /// By instance: restarts at the beginning, and now.
    restarts: BTreeMap<String, (u32, u32)>,
    hit: BTreeMap<String, Before>,
    end: End,
}

enum End {
    Well(Duration),
    Ended(PipelineState, String),
    Ill(String),
}

impl Report {
    pub(super) fn new(pipeline: &str, components: &[Component]) -> Self {
        let restarts = components
            .iter()
            .map(|one| (instance(one).to_owned(), (one.restarts, one.restarts)))
            .collect();
        let end = End::Ill("it was not looked at".to_owned());
        let pipeline = pipeline.to_owned();
        Report { pipeline, done: Vec::new(), restarts, hit: BTreeMap::new(), end }
    }

    pub(super) fn did(&mut self, at: Duration, text: String) {
        self.done.push((at, text));
    }

    pub(super) fn hit(&mut self, before: &Component, how: Disturbance) {
        let name = instance(before).to_owned();
        let entry = self.hit.entry(name);
        let entry = entry.or_insert(Before { killed: None, beat: before.last_heartbeat });
        if how == Disturbance::Kill {
            entry.killed = Some(before.fence);
        }
    }

    /// From here on beats count.
    pub(super) fn beats_from(&mut self, components: &[Component]) {
        for component in components {
            if let Some(before) = self.hit.get_mut(instance(component)) {
                before.beat = component.last_heartbeat;
            }
        }
    }

    pub(super) fn now(&mut self, components: &[Component]) {
        for component in components {
            let counts = self.restarts.entry(instance(component).to_owned()).or_default();
            counts.1 = component.restarts;
        }
    }

    pub(super) fn is_well(&self, component: &Component) -> bool {
        is_up(component, self.hit.get(instance(component)))
    }

    pub(super) fn well(&mut self, took: Duration) {
        self.end = End::Well(took);
    }

    pub(super) fn ended(&mut self, state: PipelineState, reason: String) {
        self.end = End::Ended(state, reason);
    }

    pub(super) fn ill(&mut self, why: String) {
        self.end = End::Ill(why);
    }
}
