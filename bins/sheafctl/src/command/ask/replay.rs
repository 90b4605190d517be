//! `sheafctl replay`

use clap::Args;
use sheaf_dataflow::{ReplayFrom, replay};
use sheaf_drivers::runner::store_of;
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::{Edge, Plan};
use sheaf_retry::{Code, HumanDuration, Retryable as _, Timestamp};
use sheaf_terminal::{Console, Failure, count, counted, parse_rfc3339};

use crate::args::AskArgs;
use crate::remote::{Remote, runs};

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The edge: FROM:TO
    edge: String,
    /// From where on: a time such as 2026-11-30T09:00:00Z, how long ago such as 10m, or the
    /// identifier of a batch
    #[arg(long, value_name = "TIME|BATCH")]
    from: String,
    /// The pipeline, where not only one runs
    #[arg(long, short)]
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

pub(super) async fn run(
    remote: &Remote,
    args: &ReplayArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let name = remote.only(args.pipeline.as_deref()).await?;
    let (edge, readers) = edge(remote, &name, &args.edge).await?;
    let from = from(&args.from, remote.clock.now());
    let folder = args.ask.at.data.pipelines();
    let store = store_of(&folder, &name).map_err(|error| {
        let text = format!("the run.json of {name} in {} cannot be read", folder.display());
        Failure::new(error.code(), text).because(error)
    })?;
    let store = store.ok_or_else(|| {
        let text = format!("{} does not say where batches of {name} wait", folder.display());
        let help = "name the folder of the control plane with --data-dir, on its machine";
        Failure::new(Code::NotFound, text).help(help)
    })?;
    let replayed = replay(&store, (&name, &edge.id, readers), &from, remote.clock.clone());
    let replayed = replayed.await.map_err(|error| Failure::from_error(&error))?;
    if args.ask.json {
        return console.json(&serde_json::json!({
            "pipeline": name,
            "edge": edge.id,
            "batches": replayed.batches,
            "rows": replayed.rows,
        }));
    }
    let (batches, rows) = (count(replayed.batches), counted(replayed.rows, "row"));
    console.note(&format!("{rows} of {name} go over {} once more; batches: {batches}", edge.id));
    Ok(())
}

/// The edge of a pipeline that runs, and how many instances its reader has.
async fn edge(remote: &Remote, pipeline: &str, id: &str) -> Result<(Edge, u32), Failure> {
    let found = remote.registry.pipelines(&[pipeline], true).await;
    let found = found.map_err(|error| remote.failed(&error))?;
    let Some(found) = found.into_iter().next() else {
        return Err(Failure::new(Code::NotFound, format!("no pipeline {pipeline}")));
    };
    if !runs(found.state) {
        let text = format!("{pipeline} does not run, and nobody would read what is sent");
        return Err(Failure::new(Code::FailedPrecondition, text).help("start it first"));
    }
    let checked = check(pipeline, &found.plan.spec).map_err(|report| {
        Failure::new(Code::Internal, format!("the file of {pipeline} cannot be read: {report}"))
    })?;
    let plan = Plan::new(&checked.pipeline);
    let Some(edge) = plan.edge(id) else {
        let known: Vec<&str> = plan.edges.iter().map(|edge| edge.id.as_str()).collect();
        let text = format!("{pipeline} has no edge {id}");
        return Err(Failure::new(Code::NotFound, text).help(format!("it has {}", known.join(", "))));
    };
    if !edge.durable {
        let text = format!("edge {id} is direct: nothing of it is kept");
        let help = "write `durable: true` for what is to be kept, and start the pipeline anew";
        return Err(Failure::new(Code::FailedPrecondition, text).help(help));
    }
    let readers = edge.streams.iter().map(|stream| stream.to + 1).max().unwrap_or(0);
    Ok((edge.clone(), readers))
}

fn from(text: &str, now: Timestamp) -> ReplayFrom {
    if let Ok(ago) = text.parse::<HumanDuration>() {
        let then = now.since(Timestamp::EPOCH).saturating_sub(ago.0);
        return ReplayFrom::Time(Timestamp::EPOCH.plus(then));
    }
    match parse_rfc3339(text) {
        Ok(time) => ReplayFrom::Time(time),
        Err(_) => ReplayFrom::Batch(text.to_owned()),
    }
}
