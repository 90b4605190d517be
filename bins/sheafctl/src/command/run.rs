//! `sheafctl run`

mod attend;
mod end;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures::StreamExt as _;
use futures::stream;
use sheaf_pipeline::check::check;
use sheaf_retry::SystemClock;
use sheaf_terminal::{Console, Failure, counted};

use super::file;
use crate::args::PlaneArgs;
use crate::logging;
use crate::plane::{Mode, Plane};
use crate::progress::Progress;
use crate::signals::Signals;
pub(super) use attend::help;
use attend::{Shown, attend, lines};
use end::end;
use watch::Watch;

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// The file of the pipeline; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    plane: PlaneArgs,
    /// Begin at the beginning, whatever an earlier run that was broken off has left
    #[arg(long)]
    fresh: bool,
    /// Look at the file, and take up what changes in it while the pipeline runs
    #[arg(long, short)]
    watch: bool,
    /// Say nothing but what is wrong: on standard output are the rows of a sink and nothing else
    #[arg(long, short)]
    quiet: bool,
}

pub(super) async fn run(args: RunArgs, console: &mut Console) -> Result<ExitCode, Failure> {
    watch::check(args.watch, &args.file)?;
    let (name, text) = file::read(&args.file)?;
    let checked = check(&name, &text).map_err(|report| {
        file::show(&report, console);
        file::refused(&report)
    })?;
    if !checked.warnings.is_empty() {
        file::show(&checked.warnings, console);
    }
    logging::start(args.plane.log_level.as_deref(), "warn")?;
    let (clock, mut signals) = (SystemClock::shared(), Signals::listen()?);
    let traces = logging::traces(&clock)?;
    let pipeline = checked.pipeline.metadata.name;
    let state = args.plane.data.run_state(&pipeline);
    let run_of = Some(pipeline.clone());
    let tracer = traces.tracer();
    let (outlive, prints, starts, elsewhere) = (false, true, false, false);
    let mode = Mode { state, outlive, prints, starts, elsewhere, run_of, tracer };
    let plane = Plane::start(&args.plane, mode, &clock).await?;
    let started = plane.runner.start(&name, &text, args.fresh).await;
    let started = started.map_err(|error| Failure::from_error(&error).help(help(&error)))?;
    let (run, instances) = (started.run, counted(started.instances as u64, "instance"));
    let (at, page, tls) = (plane.uri(), plane.console(), plane.tls_shown());
    // Standard output is for the rows of a sink then.
    if !args.quiet {
        let at = format!("control={at} console={page} pipeline={pipeline} run={run}{tls}");
        console.data(&format!("ready {at}\n"))?;
    }
    let mut progress =
        Progress::new(&pipeline, plane.plane.clone(), plane.health.clone(), &clock, args.quiet);
    let goes_on = match started.goes_on {
        true => "; it goes on where the run before was broken off (--fresh begins anew)",
        false => "",
    };
    progress.note(console, &format!("run {run} of {pipeline}: {instances}{goes_on}"));
    let lines = match logging::is_detailed(args.plane.log_level.as_deref()) {
        true => lines(&plane, &pipeline).await,
        false => stream::pending().boxed(),
    };
    let watched = Watch::begin(args.watch, (&args.file, &name, text), &plane.runner, &clock);
    let shown = Shown { started, lines, watched };
    let outcome = attend(&plane, shown, &mut signals, &mut progress, console).await;
    progress.end().await;
    let code = end(outcome.as_ref(), &args, &pipeline, &mut progress, console);
    plane.close().await?;
    Ok(code)
}
