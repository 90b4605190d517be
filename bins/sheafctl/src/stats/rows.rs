//! Rows of one instance.

use std::collections::BTreeMap;

use sheaf_console::figures::{Input, Stats};
use sheaf_pipeline::registry::{Component, Totals};

/// Rows of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// That came in; `None` for a source.
    pub(crate) input: Option<u64>,
    /// That went out; `None` for a sink.
    pub(crate) output: Option<u64>,
    /// Batches of durable edges that it could not take, and that have failed for good.
    pub(crate) failed: u64,
}

impl Rows {
    /// The one figure that tells how far it is.
    pub(crate) fn shown(self) -> u64 {
        self.input.or(self.output).unwrap_or(0)
    }

    /// Of what one tells; `None` where that is of no stream, as of a component of one's own.
    pub(crate) fn of(stats: &Stats) -> Option<Self> {
        let Stats { inputs, outputs, .. } = stats;
        if inputs.is_empty() && outputs.is_empty() {
            return None;
        }
        // Each reader gets its own: what was made is what the one that got most has.
        let sent = outputs.iter().map(|edge| edge.streams.iter().map(|one| one.rows).sum::<u64>());
        Some(Rows {
            input: (!inputs.is_empty()).then(|| inputs.iter().map(|one| one.rows).sum()),
            output: sent.max(),
            failed: failed(inputs),
        })
    }
}

impl Rows {
    /// What went through those that have left the place in this run.
    pub(super) fn left(component: &Component) -> Option<Self> {
        let Totals { rows_in, rows_out, failed_batches, .. } = component.totals?;
        Some(Rows { input: rows_in, output: rows_out, failed: failed_batches })
    }

    pub(super) fn plus(self, other: Rows) -> Rows {
        let add = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Rows {
            input: add(self.input, other.input),
            output: add(self.output, other.output),
            failed: self.failed.max(other.failed),
        }
    }
}

/// All senders of an edge fill one queue, and each stream of the edge tells of the whole.
fn failed(inputs: &[Input]) -> u64 {
    let mut edges: BTreeMap<&str, u64> = BTreeMap::new();
    for input in inputs {
        let most = edges.entry(&input.edge).or_default();
        *most = input.failed.max(*most);
    }
    edges.values().sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_summed_over_streams_and_not_over_readers() {
        let answer = json!({
            "inputs": [{"rows": 3}, {"rows": 4}],
            "outputs": [{"streams": [{"rows": 5}, {"rows": 6}]}, {"streams": [{"rows": 2}]}],
        });
        let read = |answer| Rows::of(&serde_json::from_value(answer).unwrap());
        let rows = read(answer).unwrap();
        assert_eq!((rows.input, rows.output, rows.shown()), (Some(7), Some(11), 7));
        let failed = json!({
            "inputs": [
                {"rows": 3, "edge": "a:c", "failed": 2},
                {"rows": 3, "edge": "a:c", "failed": 2},
                {"rows": 4, "edge": "b:c", "failed": 1},
            ],
            "outputs": [],
        });
        assert_eq!((rows.failed, read(failed).unwrap().failed), (0, 3));
        let source = read(json!({"inputs": [], "outputs": [{"streams": []}]})).unwrap();
        assert_eq!((source.input, source.output), (None, Some(0)));
        assert_eq!(read(json!({"other": 1})), None);
    }
}
