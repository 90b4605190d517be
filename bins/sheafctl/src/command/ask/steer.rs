//! `sheafctl start`, `stop` and `restart`

use std::path::Path;

use serde_json::json;
use sheaf_pipeline::check::check;
use sheaf_terminal::{Console, Failure, counted};

use super::super::file;
use super::told::{RestartArgs, StartArgs, StopArgs};
use crate::remote::Remote;

pub(super) async fn start(
    remote: &Remote,
    args: StartArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let (name, text) = checked(&args.file, console)?;
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

/// The name and the text of a file that can be used. It is checked here, where the places of
/// what is wrong can be shown.
pub(super) fn checked(path: &Path, console: &mut Console) -> Result<(String, String), Failure> {
    let (name, text) = file::read(path)?;
    let checked = check(&name, &text).map_err(|report| {
        file::show(&report, console);
        file::refused(&report)
    })?;
    if !checked.warnings.is_empty() {
        file::show(&checked.warnings, console);
    }
    Ok((name, text))
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
