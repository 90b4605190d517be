//! What a run has to change to be brought to another plan.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_pipeline::plan::{self, Plan};
use sheaf_pipeline::spec::Role;

use super::assign;
use crate::planned;

/// From one plan to the next, by places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// In both, and told something else: its process is another one.
    pub(super) restarted: BTreeSet<String>,
    /// In the next one only.
    pub(super) started: BTreeSet<String>,
    /// In the one before only.
    pub(super) stopped: BTreeSet<String>,
    /// How many go on as they are.
    pub(super) kept: usize,
}

impl Change {
    pub(super) fn between(before: &Plan, next: &Plan) -> Self {
        let place = |instance: String| planned::place(&next.pipeline, &instance);
        let diff = before.diff(next);
        let mut change = Change { kept: diff.kept.len(), ..Change::default() };
        for step in diff.changes {
            match step {
                plan::Change::Stop { instance } => change.stopped.insert(place(instance)),
                plan::Change::Restart { instance } => change.restarted.insert(place(instance)),
                plan::Change::Start { instance } => change.started.insert(place(instance)),
                // No process starts anew for it.
                plan::Change::Supervise { .. } => false,
            };
        }
        change
    }

    /// The places that have to be empty for it.
    pub(super) fn leaving(&self) -> BTreeSet<String> {
        self.restarted.union(&self.stopped).cloned().collect()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let part = |verb: &str, places: &BTreeSet<String>| {
            let names: Vec<&str> = places.iter().map(|place| assign::instance(place)).collect();
            (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
        };
        let parts = [
            part("restarts", &self.restarted),
            part("starts", &self.started),
            part("stops", &self.stopped),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.is_empty() {
            true => "no instance has to be started anew".to_owned(),
            false => parts.join("; "),
        }
    }
}

/// Why a plan cannot take the place of another one while that runs.
pub(super) fn refusal(before: &Plan, next: &Plan) -> Option<String> {
    let sources = next.components.iter().filter(|component| component.role == Role::Source);
    for source in sources {
        let Some(old) = before.component(&source.id).filter(|old| old.role == Role::Source) else {
            continue;
        };
        let (from, to) = (old.instances.len(), source.instances.len());
        if from != to {
            return Some(format!(
                "source {} has {from} replicas and would have {to}: each has come to an offset of \
                 its own, and what they have read cannot be parted anew; stop the pipeline and \
                 start it with the new file",
                source.id
            ));
        }
    }
    durable_refusal(before, next)
}

/// Rows that wait in the queue of a durable edge belong to one instance of its reader, and
/// would be read by nobody where that has another number of instances, or goes.
fn durable_refusal(before: &Plan, next: &Plan) -> Option<String> {
    let durable = |plan: &Plan| {
        let edges = plan.edges.iter().filter(|edge| edge.durable);
        edges.map(|edge| (edge.id.clone(), edge.streams.clone())).collect::<BTreeMap<_, _>>()
    };
    let (before, next) = (durable(before), durable(next));
    let all: BTreeSet<_> = before.keys().chain(next.keys()).collect();
    let changed = all.into_iter().find(|edge| before.get(*edge) != next.get(*edge))?;
    Some(format!(
        "the durable edge {changed} would come, go, or have other streams, and what waits in it \
         cannot be given to others; let the pipeline come to its end or stop it, and start it \
         with the new file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources:
  - {id: a, command: [x], durableEdges: true}
processors:
  - {id: f, kind: filter, config: {where: 'n > 1'}, inputs: [a]}
sinks:
  - {id: b, kind: stdout, inputs: [f]}
  - {id: c, kind: stdout, inputs: [a]}
";

    fn of(text: &str) -> Plan {
        Plan::new(&sheaf_pipeline::check::check("p.yaml", text).unwrap().pipeline)
    }

    fn set(places: &[&str]) -> BTreeSet<String> {
        places.iter().map(|place| (*place).to_owned()).collect()
    }

    #[test]
    fn a_durable_edge_stays_as_it_is() {
        let text = BEFORE.replace("apiVersion", "durable: true\napiVersion");
        let (before, same) = (of(&text), of(&text.replace("n > 1", "n > 2")));
        assert_eq!(refusal(&before, &same), None);
        let wider = of(&text.replace("kind: filter,", "kind: filter, replicas: 2,"));
        let why = refusal(&before, &wider).unwrap();
        assert!(why.starts_with("the durable edge a:f would"), "{why}");
        let direct = refusal(&before, &of(BEFORE)).unwrap();
        assert!(direct.contains("stop it"), "{direct}");
    }

    #[test]
    fn places_that_have_to_be_empty_are_those_that_end_or_start_anew() {
        let next = BEFORE.replace("  - {id: c, kind: stdout, inputs: [a]}\n", "");
        let next = next.replace("{id: b,", "{id: d,");
        let found = Change::between(&of(BEFORE), &of(&next));
        assert_eq!(found.restarted, set(&["p:a", "p:f"]));
        assert_eq!((&found.started, &found.stopped), (&set(&["p:d"]), &set(&["p:b", "p:c"])));
        assert_eq!(found.leaving(), set(&["p:a", "p:b", "p:c", "p:f"]));
        assert_eq!(found.text(), "restarts a, f; starts d; stops b, c");
        let same = Change::between(&of(BEFORE), &of(&BEFORE.replace("[x]", "[x], drain: 5s")));
        assert_eq!(same, Change { kept: 4, ..Change::default() });
    }

    #[test]
    fn replicas_of_a_source_that_runs_stay() {
        let more = of(&BEFORE.replace("[x]", "[x], replicas: 2"));
        let why = refusal(&of(BEFORE), &more).unwrap();
        assert!(why.contains("source a has 1 replicas and would have 2"), "{why}");
        assert_eq!(refusal(&more, &more), None);
    }
}
