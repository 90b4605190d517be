//! What changes from one plan to the next: for live reload.

use std::collections::HashMap;

use serde::Serialize;

use super::{Edge, Plan, PlannedComponent};

/// One step from the old plan to the new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// An instance ends.
    Stop {
        /// The instance.
        instance: String,
    },
    /// An instance ends and starts anew: it is to do something else, or its streams are other
    /// ones. Its neighbours go on, unless their streams are other ones too.
    Restart {
        /// The instance.
        instance: String,
    },
    /// An instance starts.
    Start {
        /// The instance.
        instance: String,
    },
    /// Restarts, health or the time to drain are to be handled otherwise; no
    /// process starts anew for it.
    Supervise {
        /// The component.
        component: String,
    },
}

/// The way from one plan to another, and what stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Stops, senders first; then restarts and starts, readers first; then what is
    /// supervised otherwise.
    pub changes: Vec<Change>,
    /// Instances that run on.
    pub kept: Vec<String>,
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Plan {
    /// What has to happen for `self` to become `next`.
    pub fn diff(&self, next: &Plan) -> Diff {
        let mut diff = Diff::default();
        let mut supervised = Vec::new();
        let (known, coming) = (self.by_id(), next.by_id());
        for component in &self.components {
            diff.stops(component, coming.get(component.id.as_str()).copied());
        }
        // Readers first.
        for component in next.components.iter().rev() {
            let old = known.get(component.id.as_str()).copied();
            let is_same = old.is_some_and(|old| {
                old.hash == component.hash
                    && old.instances.len() == component.instances.len()
                    && self.ends_of(&old.id) == next.ends_of(&component.id)
            });
            diff.starts(component, old, is_same);
            if is_same && old.is_some_and(|old| supervision_differs(old, component)) {
                supervised.push(Change::Supervise { component: component.id.clone() });
            }
        }
        diff.changes.extend(supervised);
        diff.kept.sort();
        diff
    }

    fn by_id(&self) -> HashMap<&str, &PlannedComponent> {
        self.components.iter().map(|one| (&*one.id, one)).collect()
    }

    /// The edges that lead in, in the order of the file, and those that lead out, of which the
    /// order says nothing.
    fn ends_of<'a>(&'a self, id: &'a str) -> (Vec<&'a Edge>, Vec<&'a Edge>) {
        let mut outputs: Vec<&Edge> = self.readers_of(id).collect();
        outputs.sort_by_key(|edge| &edge.id);
        (self.senders_of(id).collect(), outputs)
    }
}

impl Diff {
    /// Instances of a component that are no longer there.
    fn stops(&mut self, old: &PlannedComponent, next: Option<&PlannedComponent>) {
        let left = next.map_or(0, |next| next.instances.len());
        for instance in old.instances.iter().skip(left) {
            self.changes.push(Change::Stop { instance: instance.id.clone() });
        }
    }

    /// Starts and restarts of a component, and instances that stay.
    fn starts(&mut self, next: &PlannedComponent, old: Option<&PlannedComponent>, is_same: bool) {
        let before = old.map_or(0, |old| old.instances.len());
        for (index, instance) in next.instances.iter().enumerate() {
            let instance = instance.id.clone();
            match index < before {
                false => self.changes.push(Change::Start { instance }),
                true if is_same => self.kept.push(instance),
                true => self.changes.push(Change::Restart { instance }),
            }
        }
    }
}

fn supervision_differs(old: &PlannedComponent, next: &PlannedComponent) -> bool {
    let (one, two) = (&old.definition, &next.definition);
    one.restart != two.restart || one.drain != two.drain || one.health != two.health
}
