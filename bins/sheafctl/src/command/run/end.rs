//! What a run ends with.

use std::process::ExitCode;

use sheaf_drivers::runner::Outcome;
use sheaf_pipeline::registry::PipelineState;
use sheaf_terminal::Console;

use super::RunArgs;
use crate::args::DriverName;
use crate::progress::Progress;

pub(super) fn end(
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
            console.note(&format!("error: {pipeline} failed: {}", outcome.reason));
            console.note(&match args.plane.driver {
                DriverName::Process => {
                    let logs = args.plane.data.pipelines().join(pipeline).join("instances");
                    format!("help: the logs are {}/*/log", logs.display())
                }
                _ => "help: with --log-level debug it shows what its components write".to_owned(),
            });
            ExitCode::FAILURE
        }
        None => {
            console.note(&format!("error: {pipeline} was ended before all was written"));
            console.note("help: the same command goes on where it was, and --fresh begins anew");
            ExitCode::FAILURE
        }
    }
}
