//! `sheafctl run`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_drivers::LogLine;
use sheaf_drivers::runner::{Outcome, Started};
use sheaf_pipeline::check::check;
use sheaf_pipeline::registry::PipelineState;
use sheaf_retry::{Retryable as _, SharedClock, SystemClock};
use sheaf_terminal::{Console, Failure, counted};

use super::file;
use crate::args::PlaneArgs;
use crate::logging;
use crate::plane::{Mode, Plane};
use crate::progress::Progress;
use crate::signals::Signals;

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
    console.data(&format!("ready control={} pipeline={pipeline} run={run}\n", plane.uri()))?;
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

/// What is shown of a run.
struct Shown {
    started: Started,
    lines: BoxStream<'static, LogLine>,
}

/// What components write.
async fn lines(plane: &Plane, pipeline: &str) -> BoxStream<'static, LogLine> {
    let Ok(places) = plane.runner.named(pipeline, "").await else {
        return stream::pending().boxed();
    };
    match plane.runner.driver().logs(&places, 0, true).await {
        Ok(lines) => lines.chain(stream::pending()).boxed(),
        Err(error) => {
            tracing::warn!(%error, "what components write is not shown");
            stream::pending().boxed()
        }
    }
}

/// Until the run has ended; `None` where a second signal has ended it.
async fn attend(
    plane: &Plane,
    shown: Shown,
    signals: &mut Signals,
    progress: &mut Progress,
    console: &mut Console,
    clock: &SharedClock,
) -> Option<Outcome> {
    let Shown { mut started, mut lines } = shown;
    let (runner, pipeline) = (plane.runner.clone(), started.pipeline.clone());
    let mut outcome = started.outcome.clone();
    let mut signalled = false;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                let at_once = signalled;
                signalled = true;
                let text = match at_once {
                    false => "draining; once more ends at once",
                    true => "ending at once",
                };
                progress.note(console, &format!("{signal}: {text}"));
                let (runner, pipeline) = (runner.clone(), pipeline.clone());
                let stop = tokio::spawn(async move {
                    drop(runner.stop(&pipeline, at_once, &format!("stopped by {signal}")).await);
                });
                if at_once {
                    drop(stop.await);
                    return None;
                }
            }
            Some(note) = started.notes.recv() => progress.tell(console, &note),
            ended = outcome.wait_for(Option::is_some) => {
                let ended = ended.ok().and_then(|ended| ended.clone());
                while let Ok(note) = started.notes.try_recv() {
                    progress.tell(console, &note);
                }
                return ended;
            }
            Some(line) = lines.next() => console.note(&format!("{} | {}", line.instance, line.text)),
            () = progress.tick(clock, console) => {}
        }
    }
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

fn help(error: &sheaf_drivers::runner::Error) -> String {
    use sheaf_drivers::runner::Error;
    match error {
        Error::Runs { .. } | Error::Held { .. } => "see what runs with sheafctl ps".to_owned(),
        other => other.code().advice().to_owned(),
    }
}
