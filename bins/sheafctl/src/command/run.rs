//! `sheafctl run`

mod attend;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures::StreamExt as _;
use futures::stream;
use sheaf_drivers::runner::Outcome;
use sheaf_pipeline::check::check;
use sheaf_pipeline::registry::PipelineState;
use sheaf_retry::SystemClock;
use sheaf_terminal::{Console, Failure, counted};

use super::file;
use crate::args::PlaneArgs;
use crate::logging;
use crate::plane::{Mode, Plane};
use crate::progress::Progress;
use crate::signals::Signals;
use attend::{Shown, attend, help, lines};

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// The file of the pipeline; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    plane: PlaneArgs,
    /// Begin at the beginning, whatever an earlier run that was broken off has left
    #[arg(long)]
    fresh: bool,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    quiet: bool,
}

pub(super) async fn run(args: RunArgs, console: &mut Console) -> Result<ExitCode, Failure> {
    let (name, text) = file::read(&args.file)?;
    let checked = check(&name, &text).map_err(|report| {
        file::show(&report, console);
        file::refused(&report)
    })?;
    if !checked.warnings.is_empty() {
        file::show(&checked.warnings, console);
    }
    logging::start(args.plane.log_level.as_deref(), "warn")?;
    let clock = SystemClock::shared();
    let mut signals = Signals::listen()?;
    let pipeline = checked.pipeline.metadata.name;
    let state = args.plane.data.run_state(&pipeline);
    let mode = Mode { state, outlive: false, prints: true, starts: false };
    let plane = Plane::start(&args.plane, mode, &clock).await?;
    let started = plane.runner.start(&name, &text, args.fresh).await;
    let started = started.map_err(|error| Failure::from_error(&error).help(help(&error)))?;
    let (run, instances) = (started.run, counted(started.instances as u64, "instance"));
    let (control, page) = (plane.uri(), plane.console());
    console
        .data(&format!("ready control={control} console={page} pipeline={pipeline} run={run}\n"))?;
    let mut progress = Progress::new(&pipeline, plane.plane.clone(), &clock, args.quiet);
    progress.note(console, &format!("run {run} of {pipeline}: {instances}"));
    let lines = match logging::is_detailed(args.plane.log_level.as_deref()) {
        true => lines(&plane, &pipeline).await,
        false => stream::pending().boxed(),
    };
    let shown = Shown { started, lines };
    let outcome = attend(&plane, shown, &mut signals, &mut progress, console, &clock).await;
    let code = end(outcome.as_ref(), &args, &pipeline, &mut progress, console);
    plane.close().await?;
    Ok(code)
}

fn end(
    outcome: Option<&Outcome>,
    args: &RunArgs,
    pipeline: &str,
    progress: &mut Progress,
    console: &mut Console,
) -> ExitCode {
    progress.summary(console);
    match outcome {
        Some(outcome) if outcome.state == PipelineState::Stopped => ExitCode::SUCCESS,
        Some(outcome) => {
            let logs = args.plane.data.pipelines().join(pipeline).join("instances");
            console.note(&format!("error: {pipeline} failed: {}", outcome.reason));
            console.note(&format!("help: the logs are {}/*/log", logs.display()));
            ExitCode::FAILURE
        }
        None => {
            console.note(&format!("error: {pipeline} was ended before all was written"));
            console.note("help: the same command goes on where it was, and --fresh begins anew");
            ExitCode::FAILURE
        }
    }
}
