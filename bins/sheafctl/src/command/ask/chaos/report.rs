//! What chaos has come to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_drivers::Disturbance;
use sheaf_pipeline::registry::{Component, PipelineState};
use sheaf_retry::{Code, HumanDuration, Timestamp};
use sheaf_terminal::{Console, Failure, Table};

use super::{is_up, round};
use crate::stats::instance;

/// What was done, and what became of the pipeline.
pub(super) struct Report {
    pipeline: String,
    done: Vec<(Duration, String)>,
    /// By instance: restarts at the beginning, and now.
    restarts: BTreeMap<String, (u32, u32)>,
    hit: BTreeMap<String, Before>,
    end: End,
}

/// How one that was hit was before.
pub(super) struct Before {
    /// Of the process that was killed: another one is to come.
    killed: Option<u64>,
    /// The last beat from before the harm was over.
    beat: Timestamp,
}

enum End {
    Well(Duration),
    Ended(PipelineState, String),
    Ill(String),
}

impl Before {
    /// Whether a component shows that it is over.
    pub(super) fn is_over(&self, now: &Component) -> bool {
        let is_other = self.killed.is_none_or(|fence| now.fence > fence);
        let has_beaten = now.last_heartbeat > self.beat || self.killed.is_some();
        is_other && has_beaten
    }
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

    /// Shows it; an error where the pipeline has not borne it.
    pub(super) fn tell(&self, as_json: bool, console: &mut Console) -> Result<(), Failure> {
        match as_json {
            true => console.json(&self.json())?,
            false => self.show(console)?,
        }
        let pipeline = &self.pipeline;
        match &self.end {
            End::Well(_) | End::Ended(PipelineState::Stopped, _) => Ok(()),
            End::Ended(_, reason) => Err(Failure::new(
                Code::FailedPrecondition,
                format!("{pipeline} has not borne it: {reason}"),
            )
            .exits(1)),
            End::Ill(why) => Err(Failure::new(
                Code::FailedPrecondition,
                format!("{pipeline} is not well again: {why}"),
            )
            .exits(1)),
        }
    }

    fn show(&self, console: &mut Console) -> Result<(), Failure> {
        let mut table = Table::new(["component"]).right("restarts");
        for (name, restarts) in self.restarted() {
            table.row([name.clone(), restarts.to_string()]);
        }
        if !table.is_empty() {
            console.table(&table)?;
        }
        let count = self.done.len();
        let total: u32 = self.restarted().map(|(_, restarts)| restarts).sum();
        let end = match &self.end {
            End::Well(took) => {
                format!("healthy, {} after the last of it was over", HumanDuration(round(*took)))
            }
            End::Ended(_, reason) => format!("ended: {reason}"),
            End::Ill(why) => format!("not healthy: {why}"),
        };
        let pipeline = &self.pipeline;
        console.data(&format!("{pipeline}: {count} disturbances, {total} restarts, {end}\n"))
    }

    fn restarted(&self) -> impl Iterator<Item = (&String, u32)> {
        let counts = self.restarts.iter();
        let counts = counts.map(|(name, (before, now))| (name, now.saturating_sub(*before)));
        counts.filter(|(_, count)| *count > 0)
    }

    fn json(&self) -> Value {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let done = self.done.iter().map(|(at, what)| json!({ "atMs": millis(at), "what": what }));
        let restarts: BTreeMap<&String, u32> = self.restarted().collect();
        let (healthy, recovery, reason) = match &self.end {
            End::Well(took) => (true, Some(millis(took)), None),
            End::Ended(state, reason) => (*state == PipelineState::Stopped, None, Some(reason)),
            End::Ill(why) => (false, None, Some(why)),
        };
        json!({
            "pipeline": self.pipeline,
            "disturbances": done.collect::<Vec<_>>(),
            "restarts": restarts,
            "healthy": healthy,
            "recoveryMs": recovery,
            "reason": reason,
        })
    }
}
