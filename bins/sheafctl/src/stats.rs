//! What components say of themselves at `/stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sheaf_pipeline::health::{Endpoint, Poller};
use sheaf_pipeline::registry::Component;
use sheaf_retry::SharedClock;
use sheaf_terminal::Console;

/// Bytes of an answer.
const MOST: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(2);

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

    /// Of an answer; `None` where it is of another form, as that of a component of one's own.
    pub(crate) fn read(answer: &Value) -> Option<Self> {
        let sum = |list: &[Value]| list.iter().filter_map(|one| one["rows"].as_u64()).sum::<u64>();
        let inputs = answer["inputs"].as_array()?;
        let outputs = answer["outputs"].as_array()?;
        // Each reader gets its own: what was made is what the one that got most has.
        let of_edge = |edge: &Value| edge["streams"].as_array().map(|streams| sum(streams));
        Some(Rows {
            input: (!inputs.is_empty()).then(|| sum(inputs)),
            output: outputs.iter().filter_map(of_edge).max(),
            failed: failed(inputs),
        })
    }
}

/// All senders of an edge fill one queue, and each stream of the edge tells of the whole.
fn failed(inputs: &[Value]) -> u64 {
    let mut edges: BTreeMap<&str, u64> = BTreeMap::new();
    for input in inputs {
        let edge = input["edge"].as_str().unwrap_or_default();
        let failed = input["failed"].as_u64().unwrap_or(0);
        let most = edges.entry(edge).or_default();
        *most = failed.max(*most);
    }
    edges.values().sum()
}

/// Says of batches that an instance could not take what is to be done.
pub(crate) fn put_aside(console: &mut Console, instance: &str, rows: Option<Rows>) {
    let batches = match rows.map_or(0, |rows| rows.failed) {
        0 => return,
        1 => "1 batch".to_owned(),
        many => format!("{many} batches"),
    };
    console.note(&format!(
        "{instance}: {batches} failed again and again and were put aside; look at them with \
         `sheaf batches list --state failed` at the store that run.json names, and try them again \
         with `sheaf batches requeue`"
    ));
}

/// Asks components.
#[derive(Debug)]
pub(crate) struct Look(Poller);

impl Look {
    pub(crate) fn new(clock: &SharedClock) -> Self {
        Look(Poller::new(TIMEOUT, clock.clone()))
    }

    /// What one says; `None` where it says nothing.
    pub(crate) async fn at(&self, component: &Component) -> Option<Rows> {
        let endpoint = Endpoint::checked(&component.health_endpoint, &component.address);
        let endpoint = endpoint.ok().flatten()?;
        let answer = self.0.fetch(&endpoint, "/stats", MOST).await.ok()?;
        Rows::read(&serde_json::from_slice(&answer).ok()?)
    }
}

/// An instance, as the plan calls it.
pub(crate) fn instance(component: &Component) -> &str {
    component.id.split_once(':').map_or(&component.id, |(_, instance)| instance)
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
        let rows = Rows::read(&answer).unwrap();
        assert_eq!((rows.input, rows.output, rows.shown()), (Some(7), Some(11), 7));
        let failed = json!({
            "inputs": [
                {"rows": 3, "edge": "a:c", "failed": 2},
                {"rows": 3, "edge": "a:c", "failed": 2},
                {"rows": 4, "edge": "b:c", "failed": 1},
            ],
            "outputs": [],
        });
        assert_eq!((rows.failed, Rows::read(&failed).unwrap().failed), (0, 3));
        let source = Rows::read(&json!({"inputs": [], "outputs": [{"streams": []}]})).unwrap();
        assert_eq!((source.input, source.output), (None, Some(0)));
        assert_eq!(Rows::read(&json!({"other": 1})), None);
    }
}
