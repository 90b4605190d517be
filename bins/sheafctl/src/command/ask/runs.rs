//! `sheafctl runs`

mod gather;
mod shown;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use sheaf_pipeline::registry::Run;
use sheaf_terminal::{Console, Failure, Table, compact, relative};

use crate::args::AskArgs;
use crate::remote::Remote;
use shown::{entry, outcome, total};

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
