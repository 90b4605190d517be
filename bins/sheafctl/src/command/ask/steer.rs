//! `sheafctl start`, `stop` and `restart`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use sheaf_pipeline::check::check;
use sheaf_terminal::{Console, Failure, counted};

use super::super::file;
use crate::args::AskArgs;
use crate::remote::Remote;

#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// The file of the pipeline; `-` is standard input
    file: PathBuf,
    /// Begin at the beginning, whatever an earlier run that was broken off has left
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StopArgs {
    /// The pipeline, where not only one runs
    pipeline: Option<String>,
    /// Do not wait for what is on its way
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RestartArgs {
    /// A component, or one of its instances such as `orders.1`
    component: String,
    /// The pipeline, where not only one runs
    #[arg(long, short)]
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

pub(super) async fn start(
    remote: &Remote,
    args: StartArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let (name, text) = file::read(&args.file)?;
    // Here, where the places of what is wrong can be shown.
    let checked = check(&name, &text).map_err(|report| {
        file::show(&report, console);
        file::refused(&report)
    })?;
    if !checked.warnings.is_empty() {
        file::show(&checked.warnings, console);
    }
    let started = remote.pipelines.start(&name, text, args.fresh).await;
    let started = started.map_err(|error| remote.failed(&error))?;
    let (pipeline, run) = (started.pipeline, started.run);
    if args.ask.json {
        let instances = started.instances;
        return console.json(&json!({ "pipeline": pipeline, "run": run, "instances": instances }));
    }
    let instances = counted(u64::from(started.instances), "instance");
    console.note(&format!("started run {run} of {pipeline}: {instances}; next, sheafctl status"));
    Ok(())
}

pub(super) async fn stop(
    remote: &Remote,
    args: StopArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let pipeline = remote.only(args.pipeline.as_deref()).await?;
    let outcome = remote.pipelines.stop(&pipeline, args.now).await;
    let outcome = outcome.map_err(|error| remote.failed(&error))?;
    let (state, reason) = (outcome.state.as_str(), outcome.reason);
    if args.ask.json {
        return console.json(&json!({ "pipeline": pipeline, "state": state, "reason": reason }));
    }
    console.note(&format!("{pipeline} {state}: {reason}"));
    Ok(())
}

pub(super) async fn restart(
    remote: &Remote,
    args: RestartArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let pipeline = remote.only(args.pipeline.as_deref()).await?;
    let restarted = remote.pipelines.restart(&pipeline, &args.component).await;
    let count = restarted.map_err(|error| remote.failed(&error))?;
    if args.ask.json {
        return console.json(&json!({ "pipeline": pipeline, "instances": count }));
    }
    let instances = counted(u64::from(count), "instance");
    console.note(&format!("{instances} of {pipeline} are started again"));
    Ok(())
}
