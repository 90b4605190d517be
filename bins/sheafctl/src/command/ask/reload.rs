//! `sheafctl reload`

use serde_json::json;
use sheaf_drivers::runner::Reloaded;
use sheaf_terminal::{Console, Failure, counted};

use super::steer::checked;
use super::told::ReloadArgs;
use crate::remote::Remote;

pub(super) async fn run(
    remote: &Remote,
    args: ReloadArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let (name, text) = checked(&args.file, console)?;
    let reloaded = remote.pipelines.reload(&name, text).await;
    let reloaded = reloaded.map_err(|error| remote.failed(&error))?;
    if args.ask.json {
        return console.json(&json!({
            "pipeline": reloaded.pipeline,
            "run": reloaded.run,
            "generation": reloaded.generation,
            "restarted": reloaded.restarted,
            "started": reloaded.started,
            "stopped": reloaded.stopped,
            "kept": reloaded.kept,
        }));
    }
    console.note(&summary(&reloaded));
    Ok(())
}

/// What was done, in a line.
fn summary(reloaded: &Reloaded) -> String {
    let Reloaded { pipeline, run, generation, restarted, started, stopped, kept, .. } = reloaded;
    let part = |verb: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
    };
    let parts = [
        part("started anew:", restarted),
        part("started:", started),
        part("stopped:", stopped),
        Some(format!("{} went on", counted(*kept as u64, "instance"))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{pipeline}, run {run}, is at generation {generation}; {}", parts.join("; "))
}
