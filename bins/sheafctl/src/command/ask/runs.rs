//! `sheafctl runs`

mod gather;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use sheaf_pipeline::registry::{Generation, Run, RunTotals};
use sheaf_terminal::{Console, Failure, Table, compact, count, relative, rfc3339};

use crate::args::AskArgs;
use crate::remote::Remote;

#[derive(Clone, Debug, Args)]
pub(crate) struct RunsArgs {
    /// One pipeline; all by default
    pipeline: Option<String>,
    /// Read this state file, where no control plane runs that has it
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

pub(super) async fn run(
    remote: &Remote,
    args: RunsArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let mut all = match &args.state {
        Some(path) => gather::read(path, &remote.clock).await?,
        None => gather::gather(remote, &args.ask).await?,
    };
    if let Some(name) = &args.pipeline {
        all.retain(|one| one.plan.id == *name);
    }
    let mut runs: Vec<(&str, &Run)> =
        all.iter().flat_map(|one| one.runs.iter().map(|run| (&*one.plan.id, run))).collect();
    runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.started_at));
    if args.ask.json {
        let runs: Vec<Value> = runs.iter().map(|(pipeline, run)| entry(pipeline, run)).collect();
        return console.json(&json!({ "runs": runs }));
    }
    if runs.is_empty() {
        console.note("nothing has run that is remembered here; --data-dir says where to look");
        return Ok(());
    }
    let mut table =
        Table::new(["pipeline"]).right("run").right("generation").left("outcome").left("started");
    table = table.right("took").right("rows read").right("rows written").right("restarts");
    table = table.left("reason");
    for (pipeline, run) in runs {
        let now = remote.clock.now();
        let end = run.end.map_or(now, |(at, _)| at);
        let took = end.as_micros().saturating_sub(run.started_at.as_micros());
        table.row([
            pipeline.to_owned(),
            run.number.to_string(),
            run.generation().to_string(),
            outcome(run).to_owned(),
            relative(run.started_at, now),
            compact(std::time::Duration::from_micros(took)),
            total(run, |totals| totals.rows_read),
            total(run, |totals| totals.rows_written),
            total(run, |totals| totals.restarts.into()),
            run.reason.clone(),
        ]);
    }
    console.table(&table)
}

/// One figure of a run; none while it runs.
fn total(run: &Run, of: fn(&RunTotals) -> u64) -> String {
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

fn outcome(run: &Run) -> &'static str {
    run.end.map_or("running", |(_, state)| state.as_str())
}

fn entry(pipeline: &str, run: &Run) -> Value {
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
