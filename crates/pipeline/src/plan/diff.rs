//! What changes from one plan to the next: for live reload.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{Edge, Plan, PlannedComponent};

/// One step from the old plan to the new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// An edge ends: its streams are drained and closed.
    Disconnect {
        /// The edge.
        edge: String,
    },
    /// An instance ends.
    Stop {
        /// The instance.
        instance: String,
    },
    /// An instance ends and starts as its new definition says.
    Restart {
        /// The instance.
        instance: String,
    },
    /// An instance starts.
    Start {
        /// The instance.
        instance: String,
    },
    /// An edge begins.
    Connect {
        /// The edge.
        edge: String,
    },
    /// An edge goes on with other settings or other streams; no process starts
    /// anew for it.
    Reconnect {
        /// The edge.
        edge: String,
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
    /// Steps in the order in which they are to be taken: edges that end; stops,
    /// senders first; restarts and starts, readers first; edges that begin.
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
        let (mut starts, mut supervised) = (Vec::new(), Vec::new());
        let (known, coming) = (self.by_id(), next.by_id());
        for component in &self.components {
            diff.stops(component, coming.get(component.id.as_str()).copied());
        }
        // Readers first.
        for component in next.components.iter().rev() {
            let old = known.get(component.id.as_str()).copied();
            starts.extend(started(component, old, &mut diff.kept));
            if old.is_some_and(|old| supervision_differs(old, component)) {
                supervised.push(Change::Supervise { component: component.id.clone() });
            }
        }
        let (mut ends, begins) = self.edges(next);
        ends.append(&mut diff.changes);
        diff.changes = ends;
        diff.changes.extend(starts);
        diff.changes.extend(begins);
        diff.changes.extend(supervised);
        diff.kept.sort();
        diff
    }

    fn by_id(&self) -> HashMap<&str, &PlannedComponent> {
        self.components.iter().map(|one| (&*one.id, one)).collect()
    }

    /// Edges that end, and edges that begin or change.
    fn edges(&self, next: &Plan) -> (Vec<Change>, Vec<Change>) {
        let known: HashMap<&str, &Edge> = self.edges.iter().map(|one| (&*one.id, one)).collect();
        let coming: HashSet<&str> = next.edges.iter().map(|edge| &*edge.id).collect();
        let gone = self.edges.iter().filter(|edge| !coming.contains(&*edge.id));
        let ends = gone.map(|edge| Change::Disconnect { edge: edge.id.clone() }).collect();
        let begins = next.edges.iter().filter_map(|edge| {
            let id = edge.id.clone();
            match known.get(&*edge.id) {
                None => Some(Change::Connect { edge: id }),
                Some(old) if *old != edge => Some(Change::Reconnect { edge: id }),
                Some(_) => None,
            }
        });
        (ends, begins.collect())
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
}

/// Starts and restarts of a component; instances that stay go to `kept`.
fn started(
    next: &PlannedComponent,
    old: Option<&PlannedComponent>,
    kept: &mut Vec<String>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, instance) in next.instances.iter().enumerate() {
        let id = instance.id.clone();
        match old.filter(|old| index < old.instances.len()) {
            None => changes.push(Change::Start { instance: id }),
            Some(old) if old.hash != next.hash => changes.push(Change::Restart { instance: id }),
            Some(_) => kept.push(id),
        }
    }
    changes
}

fn supervision_differs(old: &PlannedComponent, next: &PlannedComponent) -> bool {
    let (one, two) = (&old.definition, &next.definition);
    old.hash == next.hash
        && (one.restart != two.restart || one.drain != two.drain || one.health != two.health)
}
