//! One run, for people and for programs.

use serde_json::{Value, json};
use sheaf_pipeline::registry::{Generation, Run, RunTotals};
use sheaf_terminal::{count, rfc3339};

/// One figure of a run; none while it runs.
pub(super) fn total(run: &Run, of: fn(&RunTotals) -> u64) -> String {
    run.totals.as_ref().map_or_else(|| "-".to_owned(), |totals| count(of(totals)))
}

fn generation(one: &Generation) -> Value {
    json!({
        "generation": one.number,
        "planHash": one.plan_hash,
        "since": rfc3339(one.since),
        "changes": one.changes,
    })
}

pub(super) fn outcome(run: &Run) -> &'static str {
    run.end.map_or("running", |(_, state)| state.as_str())
}

pub(super) fn entry(pipeline: &str, run: &Run) -> Value {
    json!({
        "pipeline": pipeline,
        "run": run.number,
        "outcome": outcome(run),
        "reason": run.reason,
        "startedAt": rfc3339(run.started_at),
        "stoppedAt": run.end.map(|(at, _)| rfc3339(at)),
        "rowsRead": run.totals.map(|totals| totals.rows_read),
        "batchesRead": run.totals.map(|totals| totals.batches_read),
        "rowsWritten": run.totals.map(|totals| totals.rows_written),
        "batchesWritten": run.totals.map(|totals| totals.batches_written),
        "failedBatches": run.totals.map(|totals| totals.failed_batches),
        "restarts": run.totals.map(|totals| totals.restarts),
        "planHash": run.plan_hash,
        "generation": run.generation(),
        "generations": run.generations.iter().map(generation).collect::<Vec<_>>(),
    })
}
